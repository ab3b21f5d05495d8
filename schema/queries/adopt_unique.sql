-- adopt_unique: unique keys of llm_interactions without its time, which TimescaleDB refuses; but for the primary key.
-- Parameters: none.
-- Result:     name TEXT of the index.
SELECT i.indexrelid::regclass::text AS name
FROM pg_index AS i
WHERE i.indrelid = to_regclass('llm_interactions') AND i.indisunique AND NOT i.indisprimary
  AND NOT EXISTS (
      SELECT 1 FROM pg_attribute AS a
      WHERE a.attrelid = i.indrelid AND a.attname = 'time' AND a.attnum = ANY (i.indkey)
  )
ORDER BY 1;
