-- policy_hourly_order: Set the refresh policy of cache_usage_hourly to process the oldest hours first; see
--             timescale/0002_community. TimescaleDB only.
-- Parameters: none.
-- Result:     one row; ignore it.
SELECT alter_job(
    j.job_id,
    config => j.config || CASE
        WHEN EXISTS (
            SELECT 1 FROM pg_proc
            WHERE proname = 'add_continuous_aggregate_policy' AND 'refresh_newest_first' = ANY (proargnames)
        ) THEN '{"refresh_newest_first": false}'::jsonb
        ELSE '{"buckets_per_batch": 0}'::jsonb
    END
)
FROM timescaledb_information.jobs AS j
JOIN _timescaledb_catalog.continuous_agg AS a ON a.mat_hypertable_id = (j.config ->> 'mat_hypertable_id')::integer
JOIN pg_class AS c ON c.relname = a.user_view_name
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
WHERE j.proc_name = 'policy_refresh_continuous_aggregate' AND c.oid = to_regclass('cache_usage_hourly');
