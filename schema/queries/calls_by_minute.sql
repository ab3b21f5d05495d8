-- calls_by_minute: Return calls and hit rate by minute.
-- Parameters: those of fragments/any_calls.sql.
-- Result:     one row per minute with calls, in order: minute TIMESTAMPTZ, calls BIGINT, cache_hit_rate: 0-1 over the
--             calls that reported, NULL if none did.
-- Without a bound it reads the raw table.
SELECT
    date_trunc('minute', time) AS minute,
    count(*) AS calls,
    -- include: fragments/cache_hit_rate.sql AS cache_hit_rate
FROM llm_interactions
WHERE -- include: fragments/any_calls.sql
GROUP BY 1
ORDER BY 1;
