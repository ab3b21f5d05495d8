-- runs_outcomes: Return the outcomes of some runs.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element.
-- Result:     query_id, run_id, success BOOLEAN, score DOUBLE PRECISION; NULL if not judged.
SELECT s.query_id, s.run_id, s.success, s.score
FROM query_run_summaries AS s
JOIN unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS r (query_id, run_id)
  ON r.query_id = s.query_id AND r.run_id = s.run_id;
