-- unpriced_models: the models of the calls that have no cost, most calls first; 1,000 of them at most.
-- Parameters: none.
-- Result:     a row a model, provider and service tier: model TEXT, provider TEXT, service_tier TEXT, interactions BIGINT,
--             last_time TIMESTAMPTZ. A call that failed and used nothing is not among them.
--             Served by idx_llm_unpriced. In the columnstore it reads the raw table.
SELECT model, provider, service_tier, count(*) AS interactions, max(time) AS last_time
FROM llm_interactions
WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)
GROUP BY model, provider, service_tier
ORDER BY interactions DESC, model, provider, service_tier
LIMIT 1000;
