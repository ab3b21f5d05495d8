-- unpriced_models: Return the models of the unpriced calls, most calls first; at most 1,000.
-- Parameters: none.
-- Result:     one row per model, provider and service tier: model TEXT, provider TEXT, service_tier TEXT, interactions
--             BIGINT, last_time TIMESTAMPTZ. Without calls that failed and used no tokens.
-- Served by idx_llm_unpriced. In the columnstore it reads the raw table.
SELECT model, provider, service_tier, count(*) AS interactions, max(time) AS last_time
FROM llm_interactions
WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)
GROUP BY model, provider, service_tier
ORDER BY interactions DESC, model, provider, service_tier
LIMIT 1000;
