-- policy_hourly_add: Add the refresh policy of cache_usage_hourly. TimescaleDB only.
-- Parameters: start INTERVAL: refresh only hours younger than this, NULL for all. Refreshing an hour whose calls a
--             retention policy dropped would delete its sums.
-- Result:     one row; ignore it.
SELECT add_continuous_aggregate_policy(
    'cache_usage_hourly',
    start_offset => %(start)s::interval,
    end_offset => INTERVAL '10 minutes',
    schedule_interval => INTERVAL '15 minutes'
);
