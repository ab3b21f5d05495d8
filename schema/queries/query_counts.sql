-- query_counts: how much is stored of a query, or from before a moment; for asking before deleting.
-- Parameters: query_id TEXT or NULL, run_id TIMESTAMPTZ or NULL, before TIMESTAMPTZ or NULL (on the time of the call).
-- Result:     one row: interactions, runs.
SELECT count(*) AS interactions, count(DISTINCT (query_id, run_id)) AS runs
FROM llm_interactions
WHERE (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
  AND (%(run_id)s::timestamptz IS NULL OR run_id = %(run_id)s::timestamptz)
  AND (%(before)s::timestamptz IS NULL OR time < %(before)s::timestamptz);
