-- policy_hourly_remove: take the refresh policy of cache_usage_hourly away, to set it anew. TimescaleDB only.
-- Parameters: none.
-- Result:     one row without meaning.
SELECT remove_continuous_aggregate_policy('cache_usage_hourly', if_exists => TRUE);
