-- policy_hourly_remove: Remove the refresh policy of cache_usage_hourly. TimescaleDB only.
-- Parameters: none.
-- Result:     one row; ignore it.
SELECT remove_continuous_aggregate_policy('cache_usage_hourly', if_exists => TRUE);
