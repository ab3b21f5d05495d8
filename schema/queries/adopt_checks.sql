-- adopt_checks: check constraints of the tables to be taken over.
-- Parameters: none.
-- Result:     name TEXT, "table" TEXT, says TEXT.
SELECT c.conname::text AS name, n.name AS "table", pg_get_constraintdef(c.oid) AS says
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name)
WHERE c.contype = 'c'
ORDER BY 2, 1;
