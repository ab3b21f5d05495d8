-- run_iterations: Return tokens and cost of each iteration of a run; also of a run in progress.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_records returns them, NULL
--             for no bound.
-- Result:     one row per iteration, in order; see fragments/iteration_number.sql. cached_tokens, cache_hit_rate (0-1):
--             NULL if no call reported. uncached_tokens: prompt tokens neither cached nor written; unreported_tokens:
--             those of calls that did not report. *_cost, cost_savings: USD over the priced calls.
WITH calls AS (
    SELECT
        success, prompt_tokens, cached_tokens, cache_write_tokens, completion_tokens, total_cost, original_cost,
        -- include: fragments/iteration_number.sql AS step
    FROM llm_interactions
    WHERE -- include: fragments/of_run.sql
    WINDOW run AS ()
)
SELECT
    step AS iteration,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE NOT success) AS failed_interactions,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    sum(cached_tokens)::bigint AS cached_tokens,
    coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
    coalesce(
        sum(greatest(prompt_tokens - cached_tokens - coalesce(cache_write_tokens, 0), 0)), 0
    )::bigint AS uncached_tokens,
    coalesce(
        sum(greatest(prompt_tokens - coalesce(cache_write_tokens, 0), 0)) FILTER (WHERE cached_tokens IS NULL), 0
    )::bigint AS unreported_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
    -- include: fragments/cache_hit_rate.sql AS cache_hit_rate,
    sum(total_cost) AS total_cost,
    -- include: fragments/cost_savings.sql
FROM calls
GROUP BY step
ORDER BY step;
