-- optimization: what the cache saved in one run, as stored.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ.
-- Result:     one row, or none where none is stored. *_percentage: 0-100. *_cost, cost_savings: USD. Rates in
--             cache_evolution: 0-1.
SELECT
    query_id, run_id, total_prompt_tokens, total_cached_tokens, cache_savings_tokens, cache_savings_percentage,
    original_cost, cached_cost, cost_savings, cost_savings_percentage, total_interactions, interactions_with_cache,
    interactions_without_cache, interactions_not_reported, unpriced_interactions, cache_evolution, time
FROM token_cache_optimization
WHERE query_id = %(query_id)s AND run_id = %(run_id)s;
