-- run_records: Return the newest runs of one query, or one of its runs. Reads no calls.
-- Parameters: query_id TEXT; run_id TIMESTAMPTZ: only this run, NULL for every run; limit BIGINT.
-- Result:     one row per run, newest first. state: see fragments/run_state.sql. duration_ms: milliseconds from start
--             to end, NULL for a run in progress. first_call, last_call TIMESTAMPTZ: times of its first and last call,
--             both included, NULL if unknown; with them, a query of the run's calls need not read other days.
--             stored_interactions BIGINT: number of calls at its end, NULL before; more than there are now if
--             retention dropped some. success, score, outcome_label: its outcome, NULL if not recorded.
SELECT
    query_id, run_id, start_time, end_time, status, metadata, success, score, outcome_label, tags,
    -- include: fragments/run_state.sql AS state,
    extract(epoch FROM end_time - start_time)::double precision * 1000 AS duration_ms,
    first_call_time AS first_call, last_call_time AS last_call,
    total_interactions AS stored_interactions
FROM query_run_summaries
WHERE query_id = %(query_id)s
  AND run_id >= coalesce(%(run_id)s::timestamptz, '-infinity')
  AND run_id <= coalesce(%(run_id)s::timestamptz, 'infinity')
ORDER BY start_time DESC, run_id DESC
LIMIT %(limit)s;
