-- usage_percentiles: Return percentiles of the durations of the newest calls of a time range.
-- Parameters: since, until TIMESTAMPTZ: since <= time < until; model, provider, query_id TEXT, tags JSONB: only calls with these;
--             NULL for any. limit BIGINT: at most this number of calls, the newest.
-- Result:     one row: calls BIGINT, those with a duration; p50_duration_ms, p95_duration_ms: milliseconds, NULL without
--             such calls. Served by idx_llm_time.
SELECT
    count(duration_ms) AS calls,
    percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_duration_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_duration_ms
FROM (
    SELECT duration_ms
    FROM llm_interactions
    WHERE duration_ms IS NOT NULL
      AND (%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
      AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
      AND (%(tags)s::jsonb IS NULL OR tags @> %(tags)s::jsonb)
    ORDER BY time DESC
    LIMIT %(limit)s
) AS newest;
