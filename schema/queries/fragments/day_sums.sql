-- day_sums: the columns of daily_costs.
-- Needs:  rows with a bucket and the columns of usage_of_hours.
date_trunc('day', bucket, 'UTC') AS day,
sum(total_interactions)::bigint AS interactions,
sum(unpriced_interactions)::bigint AS unpriced_interactions,
coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
coalesce(sum(reported_prompt_tokens), 0)::bigint AS reported_prompt_tokens,
coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
coalesce(sum(total_cost), 0) AS total_cost,
coalesce(sum(original_cost), 0) AS original_cost,
coalesce(sum(compared_cost), 0) AS compared_cost
