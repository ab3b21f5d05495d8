-- hourly_refresh: bring the hours of some calls up to date. Not within a transaction.
-- Parameters: first_time, last_time TIMESTAMPTZ: of the calls.
-- Result:     none.
CALL refresh_continuous_aggregate(
    'cache_usage_hourly',
    date_trunc('hour', %(first_time)s::timestamptz, 'UTC'),
    date_trunc('hour', %(last_time)s::timestamptz, 'UTC') + INTERVAL '1 hour'
);
