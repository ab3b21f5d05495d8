-- timescale_failed_jobs: Return the background jobs of this library's tables that failed when they last ran, or that did not
--             run when they should have. TimescaleDB only.
-- Parameters: none.
-- Result:     one row per job: job TEXT; failures BIGINT: of all its runs; last_success, due TIMESTAMPTZ: end of its last
--             successful run, and when it should run next, NULL if unknown; error TEXT: of its last failure, NULL if
--             there is none or this role may not read it.
SELECT
    j.proc_name::text AS job, coalesce(s.total_failures, 0) AS failures,
    nullif(s.last_successful_finish, '-infinity') AS last_success, nullif(s.next_start, '-infinity') AS due,
    (
        SELECT e.err_message FROM timescaledb_information.job_errors AS e
        WHERE e.job_id = j.job_id AND s.last_run_status = 'Failed'
        ORDER BY e.finish_time DESC LIMIT 1
    ) AS error
FROM timescaledb_information.jobs AS j
JOIN timescaledb_information.job_stats AS s USING (job_id)
LEFT JOIN _timescaledb_catalog.continuous_agg AS a ON a.mat_hypertable_id = (j.config ->> 'mat_hypertable_id')::integer
WHERE j.scheduled
  AND (
      to_regclass(quote_ident(j.hypertable_schema) || '.' || quote_ident(j.hypertable_name)) = to_regclass('llm_interactions')
      OR to_regclass(quote_ident(a.user_view_schema) || '.' || quote_ident(a.user_view_name)) = to_regclass('cache_usage_hourly')
      OR to_regproc(quote_ident(j.proc_schema) || '.' || quote_ident(j.proc_name)) = to_regproc('rlm_cachetrack_refresh_stale_hours')
  )
  AND (s.last_run_status = 'Failed' OR (s.job_status = 'Scheduled' AND s.next_start < now() - INTERVAL '1 hour'))
ORDER BY j.job_id;
