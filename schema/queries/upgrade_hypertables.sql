-- upgrade_hypertables: Return the legacy tables that are hypertables, and their partitioning columns. TimescaleDB only.
-- Parameters: none.
-- Result:     name TEXT, "column" TEXT.
SELECT n.name, d.column_name::text AS "column"
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_class AS t ON t.oid = to_regclass(n.name)
JOIN pg_namespace AS s ON s.oid = t.relnamespace
JOIN timescaledb_information.dimensions AS d ON d.hypertable_schema = s.nspname AND d.hypertable_name = t.relname
ORDER BY 1, 2;
