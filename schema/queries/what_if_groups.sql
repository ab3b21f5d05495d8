-- what_if_groups: Return the models, providers and service tiers of the calls of a what-if.
-- Parameters: those of fragments/any_calls.sql.
-- Result:     one row per model, provider and service tier: first_time, last_time TIMESTAMPTZ, interactions BIGINT.
-- Without a bound it reads the raw table.
SELECT
    model, provider, service_tier, min(time) AS first_time, max(time) AS last_time, count(*) AS interactions
FROM llm_interactions
WHERE -- include: fragments/any_calls.sql
  AND prompt_tokens IS NOT NULL
GROUP BY model, provider, service_tier
ORDER BY model, provider, service_tier;
