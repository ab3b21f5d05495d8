-- explain_neighbours: Return the other runs that called the same models shortly before a run and so may have filled its
--             cache.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ: the run; since, until TIMESTAMPTZ; models TEXT[]; limit BIGINT.
-- Result:     one row per run, newest first: query_id, run_id, last_time. Served by idx_llm_time.
SELECT query_id, run_id, max(time) AS last_time
FROM llm_interactions
WHERE time >= %(since)s::timestamptz AND time <= %(until)s::timestamptz
  AND model = ANY(%(models)s::text[])
  AND fingerprint IS NOT NULL
  AND NOT (query_id = %(query_id)s AND run_id = %(run_id)s)
GROUP BY query_id, run_id
ORDER BY last_time DESC, query_id, run_id
LIMIT %(limit)s;
