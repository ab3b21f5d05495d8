-- top_cache_savings: the runs in which the cache saved most, by cost.
-- Parameters: limit BIGINT.
-- Result:     rows of optimization, highest cost_savings first (USD); runs without a known cost are left out.
SELECT
    query_id, run_id, total_prompt_tokens, total_cached_tokens, cache_savings_tokens, cache_savings_percentage,
    original_cost, cached_cost, cost_savings, cost_savings_percentage, total_interactions, interactions_with_cache,
    interactions_without_cache, interactions_not_reported, unpriced_interactions, cache_evolution, time
FROM token_cache_optimization
WHERE cost_savings IS NOT NULL
ORDER BY cost_savings DESC, time DESC
LIMIT %(limit)s;
