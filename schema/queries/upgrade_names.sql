-- upgrade_names: Return the names of this library's other tables and indexes that are in use. An index with the same
--             name on the same columns of the same table is not listed, because it is used instead of ours.
-- Parameters: none.
-- Result:     name TEXT; "table" TEXT of an index, NULL for a table.
SELECT n.name, i.indrelid::regclass::text AS "table"
FROM (
    VALUES
        ('alert_states', NULL, NULL, FALSE),
        ('budgets', NULL, NULL, FALSE),
        ('price_lists', NULL, NULL, FALSE),
        ('price_changes', NULL, NULL, FALSE),
        ('price_change_rows', NULL, NULL, FALSE),
        ('price_change_runs', NULL, NULL, FALSE),
        ('idx_llm_unpriced', NULL, NULL, FALSE),
        ('idx_llm_hour', NULL, NULL, FALSE),
        ('idx_llm_tags', NULL, NULL, FALSE),
        ('idx_llm_key', 'llm_interactions', ARRAY['query_id', 'run_id', 'time', 'interaction_id'], TRUE),
        ('idx_llm_cached_tokens', 'llm_interactions', ARRAY['cached_tokens', 'time'], FALSE),
        ('idx_llm_total_cost', 'llm_interactions', ARRAY['total_cost', 'time'], FALSE),
        ('idx_llm_time', 'llm_interactions', ARRAY['time'], FALSE),
        ('idx_cache_opt_query_id', 'token_cache_optimization', ARRAY['query_id', 'time'], FALSE),
        ('idx_cache_opt_savings', 'token_cache_optimization', ARRAY['cost_savings', 'time'], FALSE),
        ('idx_query_run_summaries_start', 'query_run_summaries', ARRAY['start_time', 'query_id'], FALSE),
        ('idx_query_run_summaries_key', 'query_run_summaries', ARRAY['query_id', 'run_id'], TRUE),
        ('idx_token_cache_optimization_key', 'token_cache_optimization', ARRAY['query_id', 'run_id'], TRUE)
) AS n (name, of_table, columns, is_unique)
JOIN pg_class AS calls ON calls.oid = to_regclass('llm_interactions')
JOIN pg_class AS taken ON taken.relname = n.name AND taken.relnamespace = calls.relnamespace
LEFT JOIN pg_index AS i ON i.indexrelid = taken.oid
WHERE n.of_table IS NULL
   OR i.indrelid IS DISTINCT FROM to_regclass(n.of_table)
   OR NOT i.indisvalid
   OR i.indpred IS NOT NULL
   OR (n.is_unique AND NOT i.indisunique)
   OR n.columns IS DISTINCT FROM (
       SELECT array_agg(a.attname::text ORDER BY k.place)
       FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
       LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
   )
ORDER BY 1;
