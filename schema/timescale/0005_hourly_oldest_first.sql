-- 0005 hourly_oldest_first: the refresh policy of cache_usage_hourly works from the oldest hour to the newest.
-- Why:   newer releases of TimescaleDB refresh some hours at a time, the newest first. The view takes all that is older
--        than the newest materialized hour for materialized, so while a first refresh went on the view lacked up to all
--        of it (seen with 2.28.3: 1,932 of 200,000 calls). From the oldest on, what is not materialized yet is summed
--        from the calls. A release that only knows the newest first is told to do it all at once.
-- Lock:  none on existing data.
-- Needs: TimescaleDB with its community licence.

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
