-- runs_stored: Of some runs, return those that are stored already, and how they ended.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element.
-- Result:     query_id, run_id, status, end_time (NULL for a run in progress).
SELECT s.query_id, s.run_id, s.status, s.end_time
FROM query_run_summaries AS s
JOIN unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS r (query_id, run_id)
  ON r.query_id = s.query_id AND r.run_id = s.run_id;
