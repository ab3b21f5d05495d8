-- hourly_sums_exist: Return whether the sums of cache_usage_hourly are stored by this library, as on plain PostgreSQL.
-- Parameters: none.
-- Result:     one row with one BOOLEAN.
SELECT to_regclass('rlm_cachetrack_hourly_sums') IS NOT NULL;
