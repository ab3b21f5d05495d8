-- activity: Return when the newest call was made, how many are made, how large the database is, and who may write.
-- Parameters: none.
-- Result:     one row: last_call TIMESTAMPTZ, NULL without calls; calls_10_minutes BIGINT, at most 100,000;
--             calls_7_days BIGINT; row_bytes: mean size of the newest 1,000 rows of calls, without indexes, NULL without
--             calls; database_bytes BIGINT; may_write BOOLEAN: whether this role can store calls. Served by idx_llm_time.
SELECT
    (SELECT max(time) FROM llm_interactions) AS last_call,
    (
        SELECT count(*)
        FROM (SELECT 1 FROM llm_interactions WHERE time > now() - INTERVAL '10 minutes' LIMIT 100000) AS recent
    ) AS calls_10_minutes,
    (
        SELECT coalesce(sum(total_interactions), 0)::bigint
        FROM cache_usage_hourly
        WHERE bucket > now() - INTERVAL '7 days'
    ) AS calls_7_days,
    (
        SELECT avg(pg_column_size(newest.*))::double precision
        FROM (SELECT * FROM llm_interactions ORDER BY time DESC LIMIT 1000) AS newest
    ) AS row_bytes,
    pg_database_size(current_database()) AS database_bytes,
    has_table_privilege('llm_interactions', 'INSERT') AND has_table_privilege('query_run_summaries', 'INSERT') AS may_write;
