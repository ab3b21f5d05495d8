-- 0002 cache_usage_hourly: sums by hour, provider, model and service tier.
-- Why:   one name for "how much, over time", whatever the engine. On TimescaleDB, timescale/0002 puts a continuous
--        aggregate of the same name and columns in its place.
-- Lock:  none on existing data.
--
-- *_tokens: sums of tokens. reported_prompt_tokens: prompt tokens of the calls that reported their cache use (the
-- denominator of a hit rate). total_cost, original_cost: USD over the priced calls. compared_cost: total_cost of the
-- calls whose original_cost is known too (original_cost - compared_cost are the savings). duration_ms: sum.

CREATE VIEW cache_usage_hourly AS
SELECT
    date_trunc('hour', time, 'UTC') AS bucket,
    provider,
    model,
    service_tier,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
    count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
    count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
    count(*) FILTER (WHERE NOT success) AS failed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    sum(prompt_tokens::bigint) AS prompt_tokens,
    sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_prompt_tokens,
    sum(completion_tokens::bigint) AS completion_tokens,
    sum(total_tokens::bigint) AS total_tokens,
    sum(cached_tokens::bigint) AS cached_tokens,
    sum(uncached_prompt_tokens::bigint) AS uncached_prompt_tokens,
    sum(cache_write_tokens::bigint) AS cache_write_tokens,
    sum(reasoning_tokens::bigint) AS reasoning_tokens,
    sum(total_cost) AS total_cost,
    sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
    count(duration_ms) AS timed_interactions,
    sum(duration_ms) AS duration_ms,
    count(time_to_first_token_ms) AS streamed_interactions,
    sum(time_to_first_token_ms) AS time_to_first_token_ms
FROM llm_interactions
GROUP BY 1, 2, 3, 4;
