-- delete_runs: Delete the runs of a query, one run, or the runs before a time, from query_run_summaries. A run that
--             still has calls is kept; its calls are looked up only if its last call is not before that time.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, before TIMESTAMPTZ; NULL for any.
-- Result:     none; the row count is the number of deleted runs.
DELETE FROM query_run_summaries AS r
WHERE (%(query_id)s::text IS NULL OR r.query_id = %(query_id)s::text)
  AND (%(run_id)s::timestamptz IS NULL OR r.run_id = %(run_id)s::timestamptz)
  AND (%(before)s::timestamptz IS NULL OR r.start_time < %(before)s::timestamptz)
  AND (
      r.last_call_time < %(before)s::timestamptz
      OR NOT EXISTS (
          SELECT 1 FROM llm_interactions AS i
          WHERE i.query_id = r.query_id AND i.run_id = r.run_id
            AND i.time >= coalesce(r.first_call_time, '-infinity') AND i.time <= coalesce(r.last_call_time, 'infinity')
      )
  );
