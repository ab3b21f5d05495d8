-- delete_optimizations: delete from token_cache_optimization the runs of a query, one run, or those from before a moment; a run of which
-- calls are left stays.
-- Parameters: query_id TEXT or NULL, run_id TIMESTAMPTZ or NULL, before TIMESTAMPTZ or NULL.
-- Result:     none; the count of rows is the count of runs deleted.
DELETE FROM token_cache_optimization AS r
WHERE (%(query_id)s::text IS NULL OR r.query_id = %(query_id)s::text)
  AND (%(run_id)s::timestamptz IS NULL OR r.run_id = %(run_id)s::timestamptz)
  AND (%(before)s::timestamptz IS NULL OR r.run_id < %(before)s::timestamptz)
  AND NOT EXISTS (SELECT 1 FROM llm_interactions AS i WHERE i.query_id = r.query_id AND i.run_id = r.run_id);
