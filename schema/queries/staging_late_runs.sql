-- staging_late_runs: the runs of staged calls whose optimization is stored already, and so is to be computed again.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[] (of the staged calls).
-- Result:     query_id TEXT, run_id TIMESTAMPTZ.
SELECT o.query_id, o.run_id
FROM token_cache_optimization AS o
JOIN unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS s (query_id, run_id)
  ON s.query_id = o.query_id AND s.run_id = o.run_id
ORDER BY o.query_id, o.run_id;
