-- policy_hourly_add: set the refresh policy of cache_usage_hourly. TimescaleDB only.
-- Parameters: start INTERVAL: only hours younger than this, NULL for all: to refresh an hour whose calls were deleted by
--             a retention policy would delete the hour.
-- Result:     one row without meaning.
SELECT add_continuous_aggregate_policy(
    'cache_usage_hourly',
    start_offset => %(start)s::interval,
    end_offset => INTERVAL '10 minutes',
    schedule_interval => INTERVAL '15 minutes'
);
