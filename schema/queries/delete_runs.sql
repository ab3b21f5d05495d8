-- delete_runs: delete from query_run_summaries the runs of a query, one run, or those from before a moment; a run of which
-- calls are left stays. Their calls are looked for only where the run's last call is not from before the moment.
-- Parameters: query_id TEXT or NULL, run_id TIMESTAMPTZ or NULL, before TIMESTAMPTZ or NULL.
-- Result:     none; the count of rows is the count of runs deleted.
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
