-- citus_tables: Return how this library's tables are distributed. Citus only.
-- Parameters: none.
-- Result:     one row per table, by name: "table" TEXT; kind TEXT: distributed, or reference for a full copy on every
--             node; "column" TEXT: distribution column, NULL if there is none; shards BIGINT; colocation INTEGER:
--             tables with the same number keep the rows of a query on the same node.
SELECT
    t.table_name::text AS "table", t.citus_table_type AS kind, nullif(t.distribution_column, '<none>') AS "column",
    t.shard_count::bigint AS shards, t.colocation_id AS colocation
FROM citus_tables AS t
WHERE t.table_name IN (
    -- include: fragments/our_tables.sql
)
ORDER BY 1;
