-- foreign_tables: tables and views that stand where ours would go.
-- Parameters: none.
-- Result:     name.
SELECT name
FROM unnest(
    ARRAY[
        'budgets', 'cache_usage_hourly', 'llm_interactions', 'price_change_rows', 'price_change_runs', 'price_changes',
        'query_run_summaries', 'token_cache_optimization'
    ]
) AS name
WHERE to_regclass(name) IS NOT NULL
ORDER BY name;
