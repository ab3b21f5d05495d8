-- runs_bounds: Return the time range of the calls of some runs.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element.
-- Result:     one row: first_call, last_call TIMESTAMPTZ, both included; NULL if it is unknown for one of the runs.
SELECT
    CASE WHEN count(s.first_call_time) = cardinality(%(query_ids)s::text[]) THEN min(s.first_call_time) END AS first_call,
    CASE WHEN count(s.last_call_time) = cardinality(%(query_ids)s::text[]) THEN max(s.last_call_time) END AS last_call
FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS r (query_id, run_id)
JOIN query_run_summaries AS s ON s.query_id = r.query_id AND s.run_id = r.run_id;
