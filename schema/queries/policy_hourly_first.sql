-- policy_hourly_first: Return the first hour of cache_usage_hourly that may be refreshed. TimescaleDB only.
-- Parameters: none.
-- Result:     one row: first TIMESTAMPTZ, NULL if there never was a retention policy.
SELECT rlm_cachetrack_first_refreshed_hour() AS first;
