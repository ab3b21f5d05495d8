-- usage_of_calls: the sums of calls, with the columns of usage_of_hours.
-- Needs:  rows of llm_interactions.
-- include: fragments/interaction_counts.sql,
sum(prompt_tokens::bigint)::bigint AS prompt_tokens,
(sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL))::bigint AS reported_prompt_tokens,
sum(completion_tokens::bigint)::bigint AS completion_tokens,
sum(cached_tokens::bigint)::bigint AS cached_tokens,
(sum(cached_tokens::bigint) FILTER (WHERE prompt_tokens IS NOT NULL))::bigint AS rated_cached_tokens,
(sum(uncached_prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL))::bigint AS reported_uncached_tokens,
sum(cache_write_tokens::bigint)::bigint AS cache_write_tokens,
sum(total_cost) AS total_cost,
sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
count(total_cost) AS priced_interactions,
count(duration_ms) AS timed_interactions,
sum(duration_ms) AS duration_ms,
count(time_to_first_token_ms) AS streamed_interactions,
sum(time_to_first_token_ms) AS time_to_first_token_ms
