-- hourly_refresh: materialize some hours anew, as the owner of cache_usage_hourly. TimescaleDB only; in no transaction.
-- Parameters: first, until TIMESTAMPTZ: whole hours, first <= hour < until; {functions} is the schema of TimescaleDB's
--             functions, filled in by the store.
-- Result:     none.
CALL {functions}.refresh_continuous_aggregate(
    'cache_usage_hourly', %(first)s::timestamptz, %(until)s::timestamptz
);
