-- run_bounds: Return the time range of the calls of one run, so that a query of them need not read other days.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ.
-- Result:     first_call, last_call TIMESTAMPTZ, both included; NULL if unknown. No row for a run that is not in
--             query_run_summaries.
SELECT first_call_time AS first_call, last_call_time AS last_call
FROM query_run_summaries
WHERE query_id = %(query_id)s AND run_id = %(run_id)s;
