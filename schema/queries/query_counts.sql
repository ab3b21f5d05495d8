-- query_counts: Return the number of calls and runs that a deletion would delete, for the confirmation.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, before TIMESTAMPTZ (by time of the call); NULL for any.
-- Result:     one row: interactions; runs: those that would have no call left, as in delete_runs.
SELECT
    (
        SELECT count(*)
        FROM llm_interactions
        WHERE (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
          AND (%(run_id)s::timestamptz IS NULL OR run_id = %(run_id)s::timestamptz)
          AND (%(before)s::timestamptz IS NULL OR time < %(before)s::timestamptz)
    ) AS interactions,
    (
        SELECT count(*)
        FROM query_run_summaries AS r
        WHERE (%(query_id)s::text IS NULL OR r.query_id = %(query_id)s::text)
          AND (%(run_id)s::timestamptz IS NULL OR r.run_id = %(run_id)s::timestamptz)
          AND (%(before)s::timestamptz IS NULL OR r.start_time < %(before)s::timestamptz)
          AND (
              r.last_call_time < %(before)s::timestamptz
              OR NOT EXISTS (
                  SELECT 1 FROM llm_interactions AS i
                  WHERE i.query_id = r.query_id AND i.run_id = r.run_id AND i.time >= %(before)s::timestamptz
                    AND i.time <= coalesce(r.last_call_time, 'infinity')
              )
          )
    ) AS runs;
