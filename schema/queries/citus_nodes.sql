-- citus_nodes: Return the nodes of the cluster and the size of this library's tables on each. Citus only; queries every
--             node.
-- Parameters: none.
-- Result:     one row per node, the coordinator first: node TEXT (host:port); coordinator, active, takes_shards
--             BOOLEAN; shards BIGINT: number of shards of llm_interactions; bytes BIGINT: size of all tables of this
--             library, with indexes.
SELECT
    n.nodename || ':' || n.nodeport AS node,
    n.groupid = 0 AS coordinator,
    n.isactive AS active,
    n.shouldhaveshards AS takes_shards,
    count(s.shardid) FILTER (WHERE s.table_name = to_regclass('llm_interactions')) AS shards,
    coalesce(sum(s.shard_size), 0)::bigint AS bytes
FROM pg_dist_node AS n
LEFT JOIN citus_shards AS s
    ON s.nodename = n.nodename AND s.nodeport = n.nodeport
    AND s.table_name IN (
        -- include: fragments/our_tables.sql
    )
WHERE n.noderole = 'primary'
GROUP BY n.groupid, n.nodename, n.nodeport, n.isactive, n.shouldhaveshards
ORDER BY n.groupid <> 0, n.nodename, n.nodeport;
