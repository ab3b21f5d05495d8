-- hourly_refresh: Materialize some hours again, as the owner of cache_usage_hourly. TimescaleDB only; not in a
--             transaction.
-- Parameters: first, until TIMESTAMPTZ: whole hours, first <= hour < until; {functions} is the schema of TimescaleDB's
--             functions.
-- Result:     none.
CALL {functions}.refresh_continuous_aggregate(
    'cache_usage_hourly', %(first)s::timestamptz, %(until)s::timestamptz
);
