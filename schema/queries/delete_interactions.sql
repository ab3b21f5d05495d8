-- delete_interactions: Delete the calls of a query, of one of its runs, or before a time.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, before TIMESTAMPTZ; NULL for any.
-- Result:     one row: interactions BIGINT: number of deleted calls; hours TIMESTAMPTZ[]: their hours.
WITH gone AS (
    DELETE FROM llm_interactions
    WHERE (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
      AND (%(run_id)s::timestamptz IS NULL OR run_id = %(run_id)s::timestamptz)
      AND (%(before)s::timestamptz IS NULL OR time < %(before)s::timestamptz)
    RETURNING date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS hour
)
SELECT count(*) AS interactions, coalesce(array_agg(DISTINCT hour), '{}') AS hours FROM gone;
