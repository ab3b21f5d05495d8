-- staging_runs: make sure that every run a staged call belongs to is listed.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[], times TIMESTAMPTZ[] (of the first staged call of each run).
-- Result:     none.
INSERT INTO query_run_summaries (query_id, run_id, start_time)
SELECT query_id, run_id, least(run_id, first_call)
FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[], %(times)s::timestamptz[]) AS s (query_id, run_id, first_call)
ORDER BY query_id, run_id
ON CONFLICT (query_id, run_id) DO NOTHING;
