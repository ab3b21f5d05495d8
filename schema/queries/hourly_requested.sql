-- hourly_requested: Return how many requests of hourly_request are not processed yet. TimescaleDB only.
-- Parameters: requests BIGINT[].
-- Result:     waiting BIGINT.
SELECT count(*) AS waiting
FROM unnest(%(requests)s::bigint[]) AS r (request)
WHERE rlm_cachetrack_hours_are_stale(r.request);
