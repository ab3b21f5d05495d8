-- run_totals: Return the totals of the calls of one run.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_records returns them, NULL
--             for no bound.
-- Result:     one row, also for a run without calls. *_tokens: sums. cache_hit_rate: 0-1 over the calls that reported
--             their cache use, NULL if none did. *_cost, cost_savings: USD over the priced calls, NULL if there is
--             none; cached_cost: total_cost over the calls whose original cost is known too. *_ms: milliseconds over
--             the calls that have a duration. time: of the newest call.
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
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS cached_cost,
    -- include: fragments/cost_savings.sql,
    avg(total_cost) AS avg_cost_per_interaction,
    -- include: fragments/run_latencies.sql,
    avg(time_to_first_token_ms) AS avg_time_to_first_token_ms,
    min(time) AS first_call_time,
    max(coalesce(end_time, time)) AS last_call_time,
    max(time) AS time,
    coalesce(array_agg(DISTINCT model ORDER BY model), ARRAY[]::text[]) AS models
FROM llm_interactions
WHERE -- include: fragments/of_run.sql;
