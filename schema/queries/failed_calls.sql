-- failed_calls: Return the newest failed calls of a time range.
-- Parameters: since, until TIMESTAMPTZ: since <= time < until; model, provider, query_id TEXT, tags JSONB: only calls with these;
--             NULL for any. limit BIGINT.
-- Result:     one row per call, newest first: time, interaction_id TEXT, query_id, run_id, model, provider, error_type,
--             error_message, duration_ms, trace_id. Served by idx_llm_time. Without a bound it reads the raw table.
SELECT
    time, interaction_id::text AS interaction_id, query_id, run_id, model, provider, error_type, error_message, duration_ms,
    trace_id
FROM llm_interactions
WHERE NOT success
  AND (%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
  AND (%(model)s::text IS NULL OR model = %(model)s::text)
  AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
  AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
  AND (%(tags)s::jsonb IS NULL OR tags @> %(tags)s::jsonb)
ORDER BY time DESC, interaction_id
LIMIT %(limit)s;
