-- upgrade_incoming_keys: Return the foreign keys of other tables that reference the legacy tables.
-- Parameters: none.
-- Result:     name TEXT of the key, "table" TEXT that has it, target TEXT.
SELECT c.conname::text AS name, c.conrelid::regclass::text AS "table", n.name AS target
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_constraint AS c ON c.confrelid = to_regclass(n.name)
WHERE c.contype = 'f' AND c.conparentid = 0
ORDER BY 1, 2;
