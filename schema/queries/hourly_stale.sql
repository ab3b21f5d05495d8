-- hourly_stale: of some hours, those that the continuous aggregate keeps materialized. TimescaleDB only.
-- Parameters: hours TIMESTAMPTZ[]: hours in which calls were stored, changed or deleted; committed already.
-- Result:     hour TIMESTAMPTZ, in order. The limit is the invalidation threshold, not the watermark: a refresh in
--             progress moves it first. Hours whose calls a retention policy drops are left out: refreshing one would
--             forget what is known of it.
SELECT h.hour
FROM unnest(%(hours)s::timestamptz[]) AS h (hour)
CROSS JOIN (
    SELECT _timescaledb_functions.to_timestamp(t.watermark) AS materialized, a.raw_hypertable_id
    FROM _timescaledb_catalog.continuous_agg AS a
    JOIN _timescaledb_catalog.continuous_aggs_invalidation_threshold AS t ON t.hypertable_id = a.raw_hypertable_id
    JOIN pg_class AS c ON c.relname = a.user_view_name
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
    WHERE c.oid = to_regclass('cache_usage_hourly')
) AS kept
WHERE h.hour < kept.materialized
  AND NOT EXISTS (
      SELECT 1
      FROM timescaledb_information.jobs AS j
      JOIN _timescaledb_catalog.hypertable AS t ON t.schema_name = j.hypertable_schema AND t.table_name = j.hypertable_name
      WHERE t.id = kept.raw_hypertable_id
        AND j.proc_name = 'policy_retention'
        AND h.hour < now() - (j.config ->> 'drop_after')::interval
  )
ORDER BY h.hour;
