-- staging_late_runs: Of some runs, return those whose optimization is stored already and must be computed again.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element.
-- Result:     query_id TEXT, run_id TIMESTAMPTZ.
SELECT o.query_id, o.run_id
FROM token_cache_optimization AS o
JOIN unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS s (query_id, run_id)
  ON s.query_id = o.query_id AND s.run_id = o.run_id
ORDER BY o.query_id, o.run_id;
