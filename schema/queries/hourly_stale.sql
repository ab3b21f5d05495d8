-- hourly_stale: Of some hours, return those that the continuous aggregate has materialized or may be materializing.
--             TimescaleDB only.
-- Parameters: hours TIMESTAMPTZ[]: hours in which calls were stored, changed or deleted, in committed transactions.
-- Result:     one row per hour, in order: hour TIMESTAMPTZ; kept BOOLEAN: it is below the watermark, so the view reads
--             its materialized sums, which must be refreshed; watermark BIGINT, as TimescaleDB stores it; busy BOOLEAN:
--             a refresh is running; dropped BOOLEAN: retention may have dropped calls of the hour.
-- An hour between the watermark and the invalidation threshold is summed from the calls. It must not be refreshed: the
-- watermark would pass earlier hours that are not materialized. But a refresh that started before the commit and covers
-- this hour does not include the commit.
-- An hour whose calls retention may have dropped must not be refreshed either: its sums would be deleted.
SELECT
    h.hour, h.hour < _timescaledb_functions.to_timestamp(known.watermark) AS kept, known.watermark, known.busy,
    coalesce(h.hour < known.first_refreshed, FALSE) AS dropped
FROM unnest(%(hours)s::timestamptz[]) AS h (hour)
CROSS JOIN (
    SELECT
        _timescaledb_functions.to_timestamp(t.watermark) AS threshold,
        w.watermark,
        rlm_cachetrack_first_refreshed_hour() AS first_refreshed,
        EXISTS (
            SELECT 1
            FROM pg_locks AS l
            JOIN pg_class AS k ON k.oid = l.relation
            JOIN pg_namespace AS s ON s.oid = k.relnamespace
            JOIN _timescaledb_catalog.hypertable AS m ON m.schema_name = s.nspname AND m.table_name = k.relname
            WHERE m.id = a.mat_hypertable_id AND l.mode = 'RowExclusiveLock' AND l.granted
              AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
              AND l.pid <> pg_backend_pid()
        ) AS busy
    FROM _timescaledb_catalog.continuous_agg AS a
    JOIN _timescaledb_catalog.continuous_aggs_invalidation_threshold AS t ON t.hypertable_id = a.raw_hypertable_id
    JOIN _timescaledb_catalog.continuous_aggs_watermark AS w ON w.mat_hypertable_id = a.mat_hypertable_id
    JOIN pg_class AS c ON c.relname = a.user_view_name
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
    WHERE c.oid = to_regclass('cache_usage_hourly')
) AS known
WHERE h.hour < known.threshold
ORDER BY h.hour;
