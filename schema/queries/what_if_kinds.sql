-- what_if_kinds: the kinds of calls that a question is about.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; model, query_id TEXT; NULL for any.
-- Result:     a row a model, provider and service tier: first_time, last_time TIMESTAMPTZ, interactions BIGINT.
--             Without a bound it reads the raw table.
SELECT
    model, provider, service_tier, min(time) AS first_time, max(time) AS last_time, count(*) AS interactions
FROM llm_interactions
WHERE -- include: fragments/call_filters.sql
  AND prompt_tokens IS NOT NULL
GROUP BY model, provider, service_tier
ORDER BY model, provider, service_tier;
