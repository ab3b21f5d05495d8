-- upgrade_columns: Return the columns of the existing tables that have names of this library.
-- Parameters: none.
-- Result:     one row per column: name TEXT of the table; relkind TEXT (r table, v view, m materialized view, p
--             partitioned table, f foreign table); "column", type TEXT; is_required BOOLEAN: an insert must set it;
--             is_generated BOOLEAN: an insert may not set it.
SELECT
    n.name, t.relkind::text AS relkind, a.attname::text AS "column", format_type(a.atttypid, NULL) AS type,
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS is_required,
    a.attgenerated <> '' OR a.attidentity = 'a' AS is_generated
FROM unnest(ARRAY['cache_usage_hourly', 'llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_class AS t ON t.oid = to_regclass(n.name)
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY n.name, a.attnum;
