-- upgrade_unique_indexes: Return the unique indexes that TimescaleDB refuses because they lack the partitioning column.
--             Excludes primary keys, which the upgrade replaces.
-- Parameters: none.
-- Result:     name TEXT of the index, "table" TEXT, "column" TEXT that it lacks.
SELECT i.indexrelid::regclass::text AS name, n.name AS "table", n.dimension AS "column"
FROM (VALUES ('llm_interactions', 'time'), ('token_cache_optimization', 'run_id')) AS n (name, dimension)
JOIN pg_index AS i ON i.indrelid = to_regclass(n.name) AND i.indisunique AND NOT i.indisprimary
WHERE NOT EXISTS (
    SELECT 1 FROM pg_attribute AS a
    WHERE a.attrelid = i.indrelid AND a.attname = n.dimension AND a.attnum = ANY (i.indkey)
)
ORDER BY 2, 1;
