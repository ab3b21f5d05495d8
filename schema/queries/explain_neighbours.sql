-- explain_neighbours: the other runs that may have filled the cache for one: they called the same models shortly before.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ: the run; since, until TIMESTAMPTZ: when; models TEXT[]; limit BIGINT.
-- Result:     query_id, run_id, last_time: a row a run, the newest first. Served by idx_llm_time.
SELECT query_id, run_id, max(time) AS last_time
FROM llm_interactions
WHERE time >= %(since)s::timestamptz AND time <= %(until)s::timestamptz
  AND model = ANY(%(models)s::text[])
  AND fingerprint IS NOT NULL
  AND NOT (query_id = %(query_id)s AND run_id = %(run_id)s)
GROUP BY query_id, run_id
ORDER BY last_time DESC, query_id, run_id
LIMIT %(limit)s;
