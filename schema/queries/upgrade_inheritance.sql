-- upgrade_inheritance: Return the parents and children of the legacy tables, except chunks.
-- Parameters: none.
-- Result:     name TEXT of the child, parent TEXT, is_child BOOLEAN: the legacy table is the child.
SELECT h.inhrelid::regclass::text AS name, h.inhparent::regclass::text AS parent, h.inhrelid = t.oid AS is_child
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_class AS t ON t.oid = to_regclass(n.name) AND t.relkind = 'r'
JOIN pg_inherits AS h ON t.oid IN (h.inhrelid, h.inhparent)
JOIN pg_class AS c ON c.oid = h.inhrelid
JOIN pg_namespace AS s ON s.oid = c.relnamespace
WHERE s.nspname NOT LIKE '\_timescaledb%%'
ORDER BY 1, 2;
