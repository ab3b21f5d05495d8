-- runs_counted: Compute the figures of some runs from their calls, for runs of a list that have no valid stored figures.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[], first_calls, last_calls TIMESTAMPTZ[]: the runs, element by element, with
--             the time range of their calls, NULL if unknown; first_call, last_call TIMESTAMPTZ: the time range of all of
--             them, NULL for no bound. It is repeated as a constant, so that the plan contains only its days.
-- Result:     one row per run that has a call: query_id, run_id, and the figures of fragments/run_figure_columns.sql.
WITH wanted AS MATERIALIZED (
    SELECT *
    FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[], %(first_calls)s::timestamptz[], %(last_calls)s::timestamptz[])
         AS r (query_id, run_id, first_call, last_call)
)
SELECT c.*
FROM wanted AS u
CROSS JOIN LATERAL (  -- one index scan per run
    SELECT
        i.query_id, i.run_id,
        -- include: fragments/run_sums.sql,
        -- include: fragments/cache_hit_rate.sql AS cache_hit_rate,
        sum(original_cost - total_cost) AS cost_savings
    FROM llm_interactions AS i
    WHERE i.query_id = u.query_id AND i.run_id = u.run_id
      AND i.time >= coalesce(u.first_call, '-infinity') AND i.time <= coalesce(u.last_call, 'infinity')
      AND -- include: fragments/call_time_bounds.sql
    GROUP BY i.query_id, i.run_id
) AS c;
