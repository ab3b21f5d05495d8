-- upgrade_outgoing_keys: Return the foreign keys of the legacy tables that reference other tables.
-- Parameters: none.
-- Result:     name TEXT of the key, "table" TEXT, columns TEXT[] of the key, target TEXT.
SELECT
    c.conname::text AS name, n.name AS "table",
    ARRAY(
        SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
    ) AS columns,
    c.confrelid::regclass::text AS target
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name)
WHERE c.contype = 'f'
  AND c.confrelid NOT IN (
      SELECT to_regclass(o.name)
      FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS o (name)
      WHERE to_regclass(o.name) IS NOT NULL
  )
ORDER BY 1, 2;
