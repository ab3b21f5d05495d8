-- daily_costs: Return calls, tokens and cost by day.
-- Parameters: since, until TIMESTAMPTZ: days with since <= day < until; model, provider TEXT, NULL for all.
-- Result:     one row per day (UTC) with calls, in order: day TIMESTAMPTZ; interactions, unpriced_interactions,
--             prompt_tokens, reported_prompt_tokens (of the calls that reported their cache use), cached_tokens BIGINT;
--             total_cost: USD, 0 if no call is priced; original_cost, compared_cost: USD over the calls whose costs are
--             both known.
SELECT
    date_trunc('day', bucket, 'UTC') AS day,
    sum(total_interactions)::bigint AS interactions,
    sum(unpriced_interactions)::bigint AS unpriced_interactions,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    coalesce(sum(reported_prompt_tokens), 0)::bigint AS reported_prompt_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(total_cost), 0) AS total_cost,
    coalesce(sum(original_cost), 0) AS original_cost,
    coalesce(sum(compared_cost), 0) AS compared_cost
FROM cache_usage_hourly
WHERE bucket >= %(since)s::timestamptz AND bucket < %(until)s::timestamptz
  AND (%(model)s::text IS NULL OR model = %(model)s::text)
  AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
GROUP BY 1
ORDER BY 1;
