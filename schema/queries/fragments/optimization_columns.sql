-- optimization_columns: the columns of a stored optimization.
-- Needs:  a row of token_cache_optimization.
query_id, run_id, total_prompt_tokens, total_cached_tokens, cache_savings_tokens, cache_savings_percentage,
original_cost, cached_cost, cost_savings, cost_savings_percentage, total_interactions, interactions_with_cache,
interactions_without_cache, interactions_not_reported, unpriced_interactions, cache_evolution, time
