-- policy_hourly_materialize: Materialize all hours that may be refreshed, before a retention policy drops their calls.
--             TimescaleDB only; not in a transaction.
-- Parameters: first TIMESTAMPTZ: the first of them, NULL for all; {functions} is the schema of TimescaleDB's functions.
-- Result:     none.
CALL {functions}.refresh_continuous_aggregate('cache_usage_hourly', %(first)s::timestamptz, now() - INTERVAL '10 minutes');
