-- reconcile_calls: Return recorded calls, tokens and cost by day, model and service tier.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; providers TEXT[]: only calls of these and of
--             unknown providers.
-- Result:     day TIMESTAMPTZ (UTC), model, service_tier TEXT, interactions, prompt_tokens, cached_tokens,
--             completion_tokens BIGINT, total_cost (USD, 0 if no call is priced), unpriced_interactions BIGINT.
SELECT
    date_trunc('day', time, 'UTC') AS day,
    model,
    service_tier,
    count(*) AS interactions,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
    coalesce(sum(total_cost), 0) AS total_cost,
    count(*) FILTER (WHERE total_cost IS NULL) AS unpriced_interactions
FROM llm_interactions
WHERE time >= %(since)s::timestamptz AND time < %(until)s::timestamptz
  AND (success OR prompt_tokens IS NOT NULL)
  AND (provider IS NULL OR provider = 'unknown' OR provider = ANY(%(providers)s))
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;
