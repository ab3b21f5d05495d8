-- evolution: Return the cache hit rate by iteration of one run, computed from its calls; also of a run in progress.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_bounds returns them, NULL
--             for no bound.
-- Result:     one row per iteration, in order: iteration, prompt_tokens, cached_tokens (NULL if no call reported),
--             total_cost (USD), cache_hit_rate (0-1). Calls without an iteration are numbered by time, after the
--             others.
WITH calls AS (
    SELECT
        prompt_tokens, cached_tokens, total_cost,
        -- include: fragments/iteration_number.sql AS iteration
    FROM llm_interactions
    WHERE -- include: fragments/of_run.sql
    WINDOW run AS ()
)
SELECT
    iteration,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    sum(cached_tokens)::bigint AS cached_tokens,
    -- include: fragments/cache_hit_rate.sql AS cache_hit_rate,
    sum(total_cost) AS total_cost
FROM calls
GROUP BY iteration
ORDER BY iteration;
