-- export_interactions: calls for an export, the oldest first; read through a cursor, a few at a time.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; NULL for no bound. query_id, model TEXT: only
--             theirs, NULL for all.
-- Result:     the columns of llm_interactions. Served by the index idx_llm_time.
--             Without a bound it reads the raw table.
SELECT *
FROM llm_interactions
WHERE time >= coalesce(%(since)s::timestamptz, '-infinity')
  AND time < coalesce(%(until)s::timestamptz, 'infinity')
  AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
  AND (%(model)s::text IS NULL OR model = %(model)s::text)
ORDER BY time;
