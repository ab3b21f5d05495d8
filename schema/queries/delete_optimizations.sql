-- delete_optimizations: delete from token_cache_optimization what delete_runs deletes from query_run_summaries; to be run
-- before it, because when a run began and ended is known there.
-- Parameters: query_id TEXT or NULL, run_id TIMESTAMPTZ or NULL, before TIMESTAMPTZ or NULL.
-- Result:     none; the count of rows is the count of runs deleted.
DELETE FROM token_cache_optimization AS o
WHERE (%(query_id)s::text IS NULL OR o.query_id = %(query_id)s::text)
  AND (%(run_id)s::timestamptz IS NULL OR o.run_id = %(run_id)s::timestamptz)
  AND NOT EXISTS (  -- a run that stays
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
