-- daily_costs: Return calls, tokens and cost by day, from the hourly sums.
-- Parameters: since, until TIMESTAMPTZ: days with since <= day < until; model, provider TEXT, NULL for all.
-- Result:     one row per day (UTC) with calls, in order: day TIMESTAMPTZ; interactions, unpriced_interactions,
--             prompt_tokens, reported_prompt_tokens (of the calls that reported their cache use), cached_tokens BIGINT;
--             total_cost: USD, 0 if no call is priced; original_cost, compared_cost: USD over the calls whose costs are
--             both known.
SELECT
    -- include: fragments/day_sums.sql
FROM cache_usage_hourly
WHERE bucket >= %(since)s::timestamptz AND bucket < %(until)s::timestamptz
  AND (%(model)s::text IS NULL OR model = %(model)s::text)
  AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
GROUP BY 1
ORDER BY 1;
