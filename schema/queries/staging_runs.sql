-- staging_runs: make sure that every run a staged call belongs to is listed.
-- Parameters: none.
-- Result:     none.
INSERT INTO query_run_summaries (query_id, run_id, start_time)
SELECT query_id, run_id, least(run_id, min(time)) FROM rlm_cachetrack_staging GROUP BY query_id, run_id ORDER BY query_id, run_id
ON CONFLICT (query_id, run_id) DO NOTHING;
