-- citus_tables: how this library's tables are spread over the nodes. Citus only.
-- Parameters: none.
-- Result:     a row a table, by name: "table" TEXT; kind TEXT: distributed, or reference for one that is whole on every
--             node; "column" TEXT: by which it is distributed, NULL for none; shards BIGINT; colocation INTEGER: tables of
--             the same number have the rows of a query together.
SELECT
    t.table_name::text AS "table", t.citus_table_type AS kind, nullif(t.distribution_column, '<none>') AS "column",
    t.shard_count::bigint AS shards, t.colocation_id AS colocation
FROM citus_tables AS t
WHERE t.table_name IN (
    -- include: fragments/our_tables.sql
)
ORDER BY 1;
