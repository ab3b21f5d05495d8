-- reprice_stage_runs: Create a temporary table, dropped at commit, of the new sums of the next runs of a re-pricing.
-- Parameters: change_id BIGINT; last_run, first_call, last_call TIMESTAMPTZ: as reprice_next_runs returns them.
-- Result:     none. *_cost, cost_savings: USD, over the same calls as in store_optimization and store_run_totals.
CREATE TEMPORARY TABLE rlm_cachetrack_resummed ON COMMIT DROP AS
SELECT c.*
FROM price_change_runs AS r
LEFT JOIN query_run_summaries AS s ON s.query_id = r.query_id AND s.run_id = r.run_id
CROSS JOIN LATERAL (  -- one index scan per run
    SELECT
        i.query_id, i.run_id, count(*) AS total_interactions,
        -- include: fragments/cost_savings.sql,
        sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS cached_cost,
        count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
        sum(total_cost) AS total_cost
    FROM llm_interactions AS i
    WHERE i.query_id = r.query_id AND i.run_id = r.run_id
      AND i.time >= coalesce(s.first_call_time, '-infinity') AND i.time <= coalesce(s.last_call_time, 'infinity')
      AND -- include: fragments/call_time_bounds.sql
    GROUP BY i.query_id, i.run_id
) AS c
WHERE r.change_id = %(change_id)s AND NOT r.summed AND r.run_id <= %(last_run)s::timestamptz;
