-- hourly_request: Request that the owner's background job materialize some hours again. TimescaleDB only.
-- Parameters: first, last TIMESTAMPTZ: hours, both included.
-- Result:     request BIGINT.
SELECT rlm_cachetrack_refresh_hours(%(first)s::timestamptz, %(last)s::timestamptz) AS request;
