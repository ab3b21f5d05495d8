-- reprice_groups: what kinds of calls a re-pricing would look at. Calls whose prices were given by hand are not among them.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; model, query_id TEXT; NULL for any.
-- Result:     a row a model, provider and service tier: first_time, last_time TIMESTAMPTZ, interactions BIGINT.
--             Without a bound it reads the raw table.
SELECT
    model, provider, service_tier, min(time) AS first_time, max(time) AS last_time, count(*) AS interactions
FROM llm_interactions
WHERE -- include: fragments/repriceable.sql
GROUP BY model, provider, service_tier
ORDER BY model, provider, service_tier;
