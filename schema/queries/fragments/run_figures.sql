-- run_figures: CTEs that give the figures of a page of runs. Figures that were stored when a run ended (late calls
--              included) are read; those of other runs are computed from their calls.
-- Needs:  CTE page: rows of query_run_summaries.
-- Result: CTE figures: one row per run that has stored figures or a call.
saved AS (
    SELECT o.query_id, o.run_id, o.cost_savings
    FROM page AS p
    JOIN token_cache_optimization AS o
      ON o.query_id = p.query_id AND o.run_id = p.run_id
     AND p.reported_prompt_tokens IS NOT NULL AND o.total_interactions = p.total_interactions
),
unsaved AS MATERIALIZED (
    SELECT p.query_id, p.run_id, p.first_call_time, p.last_call_time
    FROM page AS p
    LEFT JOIN saved AS v ON v.query_id = p.query_id AND v.run_id = p.run_id
    WHERE v.query_id IS NULL
),
counted AS (
    SELECT c.*
    FROM unsaved AS u
    CROSS JOIN LATERAL (  -- one index scan per run
        SELECT
            i.query_id, i.run_id,
            -- include: fragments/run_sums.sql,
            -- include: fragments/cache_hit_rate.sql AS cache_hit_rate,
            sum(original_cost - total_cost) AS cost_savings
        FROM llm_interactions AS i
        WHERE i.query_id = u.query_id AND i.run_id = u.run_id
          AND i.time >= coalesce(u.first_call_time, '-infinity') AND i.time <= coalesce(u.last_call_time, 'infinity')
        GROUP BY i.query_id, i.run_id
    ) AS c
),
figures AS (
    SELECT
        p.query_id, p.run_id, p.total_interactions, p.failed_interactions, p.total_prompt_tokens,
        p.total_completion_tokens, p.total_cached_tokens,
        p.rated_cached_tokens::double precision / nullif(p.reported_prompt_tokens, 0) AS cache_hit_rate,
        p.total_cost, v.cost_savings
    FROM page AS p
    JOIN saved AS v ON v.query_id = p.query_id AND v.run_id = p.run_id
    UNION ALL
    SELECT
        query_id, run_id, total_interactions, failed_interactions, total_prompt_tokens, total_completion_tokens,
        total_cached_tokens, cache_hit_rate, total_cost, cost_savings
    FROM counted
)
