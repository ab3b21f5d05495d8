-- adopt_columns: what stands where this library's tables would go.
-- Parameters: none.
-- Result:     a row a column: name TEXT of the table; kind TEXT: r for a table, v view, m materialized view, p
--             partitioned, f foreign; "column", type TEXT; required BOOLEAN: an insert must give it; generated BOOLEAN: no
--             insert may give it.
SELECT
    n.name, t.relkind::text AS kind, a.attname::text AS "column", format_type(a.atttypid, NULL) AS type,
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required,
    a.attgenerated <> '' OR a.attidentity = 'a' AS generated
FROM unnest(ARRAY['cache_usage_hourly', 'llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_class AS t ON t.oid = to_regclass(n.name)
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY n.name, a.attnum;
