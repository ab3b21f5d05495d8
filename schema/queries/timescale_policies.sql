-- timescale_policies: Return the chunks, columnstore and policies of llm_interactions. TimescaleDB only.
-- Parameters: none.
-- Result:     one row, none if llm_interactions is not a hypertable: chunk_interval INTERVAL; chunks,
--             columnstore_chunks BIGINT: number of chunks, and of those in the columnstore; columnstore BOOLEAN:
--             whether it is set up; segment_by, order_by TEXT; columnstore_after, retention_after, hourly_every
--             INTERVAL: of the policies, NULL without one; hourly TEXT: continuous aggregate or view.
SELECT
    d.time_interval AS chunk_interval,
    (SELECT count(*) FROM timescaledb_information.chunks AS c
     WHERE c.hypertable_schema = n.nspname AND c.hypertable_name = t.relname) AS chunks,
    (SELECT count(*) FROM timescaledb_information.chunks AS c
     WHERE c.hypertable_schema = n.nspname AND c.hypertable_name = t.relname AND c.is_compressed) AS columnstore_chunks,
    h.compression_enabled AS columnstore,
    s.segment_by,
    s.order_by,
    j.columnstore_after,
    j.retention_after,
    CASE WHEN a.oid IS NULL THEN 'view' ELSE 'continuous aggregate' END AS hourly,
    (SELECT r.schedule_interval FROM timescaledb_information.jobs AS r
     WHERE r.proc_name = 'policy_refresh_continuous_aggregate' AND a.oid IS NOT NULL
       AND (r.hypertable_schema, r.hypertable_name) IN (
           (a.materialization_hypertable_schema, a.materialization_hypertable_name), (a.view_schema, a.view_name)
       )) AS hourly_every
FROM pg_class AS t
JOIN pg_namespace AS n ON n.oid = t.relnamespace
JOIN timescaledb_information.hypertables AS h ON h.hypertable_schema = n.nspname AND h.hypertable_name = t.relname
JOIN timescaledb_information.dimensions AS d
  ON d.hypertable_schema = n.nspname AND d.hypertable_name = t.relname AND d.dimension_number = 1
LEFT JOIN LATERAL (
    SELECT
        string_agg(attname::text, ', ' ORDER BY segmentby_column_index)
            FILTER (WHERE segmentby_column_index IS NOT NULL) AS segment_by,
        string_agg(attname::text, ', ' ORDER BY orderby_column_index)
            FILTER (WHERE orderby_column_index IS NOT NULL) AS order_by
    FROM timescaledb_information.compression_settings AS c
    WHERE c.hypertable_schema = n.nspname AND c.hypertable_name = t.relname
) AS s ON TRUE
LEFT JOIN LATERAL (
    SELECT
        max((p.config ->> 'compress_after')::interval) AS columnstore_after,
        max((p.config ->> 'drop_after')::interval) AS retention_after
    FROM timescaledb_information.jobs AS p
    WHERE p.hypertable_schema = n.nspname AND p.hypertable_name = t.relname
      AND p.proc_name IN ('policy_compression', 'policy_retention')
) AS j ON TRUE
LEFT JOIN LATERAL (
    SELECT c.oid, v.view_schema, v.view_name, v.materialization_hypertable_schema, v.materialization_hypertable_name
    FROM timescaledb_information.continuous_aggregates AS v
    JOIN pg_class AS c ON c.relname = v.view_name
    JOIN pg_namespace AS m ON m.oid = c.relnamespace AND m.nspname = v.view_schema
    WHERE c.oid = to_regclass('cache_usage_hourly')
) AS a ON TRUE
WHERE t.oid = to_regclass('llm_interactions');
