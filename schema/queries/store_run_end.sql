-- store_run_end: Store the end of a run.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, time TIMESTAMPTZ, status TEXT.
-- Result:     none.
INSERT INTO query_run_summaries AS s (query_id, run_id, start_time, end_time, status)
VALUES (%(query_id)s, %(run_id)s, %(time)s, %(time)s, %(status)s)
ON CONFLICT (query_id, run_id) DO UPDATE SET
    end_time = excluded.end_time,
    status = excluded.status;
