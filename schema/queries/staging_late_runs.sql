-- staging_late_runs: the runs of staged calls whose optimization is stored already, and so is to be computed again.
-- Parameters: none.
-- Result:     query_id TEXT, run_id TIMESTAMPTZ.
SELECT o.query_id, o.run_id
FROM token_cache_optimization AS o
JOIN (SELECT DISTINCT query_id, run_id FROM rlm_cachetrack_staging) AS s
  ON s.query_id = o.query_id AND s.run_id = o.run_id
ORDER BY o.query_id, o.run_id;
