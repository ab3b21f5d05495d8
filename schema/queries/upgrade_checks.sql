-- upgrade_checks: Return the check constraints of the legacy tables.
-- Parameters: none.
-- Result:     name TEXT of the constraint, "table" TEXT, definition TEXT.
SELECT c.conname::text AS name, n.name AS "table", pg_get_constraintdef(c.oid) AS definition
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name)
WHERE c.contype = 'c'
ORDER BY 2, 1;
