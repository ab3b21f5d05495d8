-- existing_tables: Return the existing tables, views and indexes that have names of this library.
-- Parameters: none.
-- Result:     name.
SELECT name
FROM unnest(
    ARRAY[
        'alert_states', 'budgets', 'cache_usage_hourly', 'idx_cache_opt_query_id', 'idx_cache_opt_savings', 'idx_llm_cached_tokens',
        'idx_llm_hour', 'idx_llm_tags', 'idx_llm_time', 'idx_llm_total_cost', 'idx_llm_unpriced', 
        'idx_query_run_summaries_start', 'llm_interactions', 'price_change_rows', 'price_change_runs', 'price_changes',
        'price_lists', 'query_run_summaries', 'token_cache_optimization'
    ]
) AS name
WHERE to_regclass(name) IS NOT NULL
ORDER BY name;
