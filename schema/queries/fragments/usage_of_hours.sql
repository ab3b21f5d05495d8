-- usage_of_hours: sums of whole hours. usage_of_calls gives the same columns for single calls.
-- Needs:  rows of cache_usage_hourly.
-- Integers are summed as BIGINT: the state of a sum of NUMERIC is large, and there is one for each hour.
sum(total_interactions)::bigint AS total_interactions, sum(interactions_with_cache)::bigint AS interactions_with_cache,
sum(interactions_without_cache)::bigint AS interactions_without_cache,
sum(interactions_not_reported)::bigint AS interactions_not_reported,
sum(failed_interactions)::bigint AS failed_interactions, sum(unpriced_interactions)::bigint AS unpriced_interactions,
sum(prompt_tokens)::bigint AS prompt_tokens, sum(reported_prompt_tokens)::bigint AS reported_prompt_tokens,
sum(completion_tokens)::bigint AS completion_tokens, sum(cached_tokens)::bigint AS cached_tokens,
sum(rated_cached_tokens)::bigint AS rated_cached_tokens,
sum(reported_uncached_tokens)::bigint AS reported_uncached_tokens,
sum(cache_write_tokens)::bigint AS cache_write_tokens,
sum(total_cost) AS total_cost, sum(original_cost) AS original_cost, sum(compared_cost) AS compared_cost,
sum(priced_interactions)::bigint AS priced_interactions,
sum(timed_interactions)::bigint AS timed_interactions, sum(duration_ms) AS duration_ms,
sum(streamed_interactions)::bigint AS streamed_interactions, sum(time_to_first_token_ms) AS time_to_first_token_ms
