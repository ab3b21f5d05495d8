-- run_summary: Return the totals of one run, computed from its calls.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_bounds returns them, NULL
--             for no bound.
-- Result:     one row, none for an unknown run. *_tokens: sums. cache_hit_rate: 0-1 over the calls that reported their
--             cache use, NULL if none did. *_percentage: 0-100. *_cost: USD over the priced calls, NULL if there is
--             none. *_ms: milliseconds.
WITH calls AS (
    SELECT
        -- include: fragments/interaction_counts.sql,
        coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
        coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
        coalesce(sum(coalesce(total_tokens, prompt_tokens + coalesce(completion_tokens, 0))), 0)::bigint AS total_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
        coalesce(sum(uncached_prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0)::bigint AS total_uncached_tokens,
        coalesce(sum(cache_write_tokens), 0)::bigint AS total_cache_write_tokens,
        coalesce(sum(reasoning_tokens), 0)::bigint AS total_reasoning_tokens,
        -- include: fragments/cache_hit_rate.sql AS cache_hit_rate,
        sum(total_cost) AS total_cost,
        -- include: fragments/cost_savings.sql,
        avg(total_cost) AS avg_cost_per_interaction,
        avg(duration_ms) AS avg_duration_ms,
        avg(time_to_first_token_ms) AS avg_time_to_first_token_ms,
        min(time) AS first_call_time,
        max(coalesce(end_time, time)) AS last_call_time,
        array_agg(DISTINCT model ORDER BY model) AS models
    FROM llm_interactions
    WHERE -- include: fragments/of_run.sql
)
SELECT
    %(query_id)s::text AS query_id,
    %(run_id)s::timestamptz AS run_id,
    total_prompt_tokens,
    total_completion_tokens,
    total_tokens,
    total_cached_tokens,
    total_uncached_tokens,
    total_cache_write_tokens,
    total_reasoning_tokens,
    cache_hit_rate,
    total_cost,
    original_cost,
    cost_savings,
    avg_cost_per_interaction,
    total_interactions,
    interactions_with_cache,
    interactions_without_cache,
    interactions_not_reported,
    failed_interactions,
    unpriced_interactions,
    total_cached_tokens AS cache_savings_tokens,
    100 * cache_hit_rate AS cache_savings_percentage,
    avg_duration_ms,
    avg_time_to_first_token_ms,
    first_call_time,
    last_call_time,
    coalesce(models, ARRAY[]::text[]) AS models
FROM calls
WHERE total_interactions > 0
   OR EXISTS (SELECT 1 FROM query_run_summaries WHERE query_id = %(query_id)s AND run_id = %(run_id)s);
