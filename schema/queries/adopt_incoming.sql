-- adopt_incoming: foreign keys of other tables that point at the tables to be taken over.
-- Parameters: none.
-- Result:     name TEXT, "table" TEXT of the key and the table it stands at; target TEXT.
SELECT c.conname::text AS name, c.conrelid::regclass::text AS "table", n.name AS target
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_constraint AS c ON c.confrelid = to_regclass(n.name)
WHERE c.contype = 'f' AND c.conparentid = 0
ORDER BY 1, 2;
