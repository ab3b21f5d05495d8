-- delete_optimizations: Delete the rows of token_cache_optimization whose runs delete_runs deletes. Run it first, as it
--             needs their start and end from query_run_summaries.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, before TIMESTAMPTZ; NULL for any.
-- Result:     none; the row count is the number of deleted runs.
DELETE FROM token_cache_optimization AS o
WHERE (%(query_id)s::text IS NULL OR o.query_id = %(query_id)s::text)
  AND (%(run_id)s::timestamptz IS NULL OR o.run_id = %(run_id)s::timestamptz)
  AND NOT EXISTS (  -- the run is kept
      SELECT 1 FROM query_run_summaries AS r
      WHERE r.query_id = o.query_id AND r.run_id = o.run_id
        AND (
            r.start_time >= %(before)s::timestamptz
            OR (
                (r.last_call_time < %(before)s::timestamptz) IS NOT TRUE
                AND EXISTS (
                    SELECT 1 FROM llm_interactions AS i
                    WHERE i.query_id = r.query_id AND i.run_id = r.run_id
                      AND i.time >= coalesce(r.first_call_time, '-infinity')
                      AND i.time <= coalesce(r.last_call_time, 'infinity')
                )
            )
        )
  );
