-- usage_totals: counts and tokens of a group of usage parts.
-- Needs:  rows with the columns of usage_of_hours.
coalesce(sum(total_interactions), 0)::bigint AS total_interactions,
coalesce(sum(interactions_with_cache), 0)::bigint AS interactions_with_cache,
coalesce(sum(interactions_without_cache), 0)::bigint AS interactions_without_cache,
coalesce(sum(interactions_not_reported), 0)::bigint AS interactions_not_reported,
coalesce(sum(failed_interactions), 0)::bigint AS failed_interactions,
coalesce(sum(unpriced_interactions), 0)::bigint AS unpriced_interactions,
coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
coalesce(sum(reported_uncached_tokens), 0)::bigint AS total_uncached_tokens
