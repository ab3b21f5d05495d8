-- delete_interactions: delete the calls of a query, of one run of it, or from before a moment.
-- Parameters: query_id TEXT or NULL, run_id TIMESTAMPTZ or NULL, before TIMESTAMPTZ or NULL.
-- Result:     one row: interactions BIGINT, how many were deleted; hours TIMESTAMPTZ[], the hours they were in.
WITH gone AS (
    DELETE FROM llm_interactions
    WHERE (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
      AND (%(run_id)s::timestamptz IS NULL OR run_id = %(run_id)s::timestamptz)
      AND (%(before)s::timestamptz IS NULL OR time < %(before)s::timestamptz)
    RETURNING date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS hour
)
SELECT count(*) AS interactions, coalesce(array_agg(DISTINCT hour), '{}') AS hours FROM gone;
