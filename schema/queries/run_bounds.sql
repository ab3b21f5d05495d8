-- run_bounds: between which moments the calls of one run lie, so that a read of them need not look at other days.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ.
-- Result:     first_call, last_call TIMESTAMPTZ, both included; NULL: not known. No row for a run that is not listed.
SELECT first_call_time AS first_call, last_call_time AS last_call
FROM query_run_summaries
WHERE query_id = %(query_id)s AND run_id = %(run_id)s;
