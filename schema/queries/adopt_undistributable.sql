-- adopt_undistributable: what of the tables to be taken over cannot be distributed by query_id. Citus only.
-- Parameters: none.
-- Result:     name TEXT; "table" TEXT: name is a unique index of it without query_id, or NULL where it is distributed already.
SELECT i.indexrelid::regclass::text AS name, n.name AS "table"
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_index AS i ON i.indrelid = to_regclass(n.name) AND i.indisunique
WHERE NOT EXISTS (
    SELECT 1 FROM pg_attribute AS a
    WHERE a.attrelid = i.indrelid AND a.attname = 'query_id' AND a.attnum = ANY (i.indkey)
)
UNION ALL
SELECT NULL, n.name
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_dist_partition AS d ON d.logicalrelid = to_regclass(n.name)
ORDER BY 2, 1;
