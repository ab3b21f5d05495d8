-- calls_types: Return the column types of llm_interactions.
-- Parameters: none.
-- Result:     one row per column: name TEXT, type TEXT.
SELECT a.attname::text AS name, t.typname::text AS type
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass('llm_interactions') AND a.attnum > 0 AND NOT a.attisdropped;
