-- hourly_requested: whether hours that were asked for are still to be materialized. TimescaleDB only.
-- Parameters: requests BIGINT[].
-- Result:     waiting BIGINT: of how many requests.
SELECT count(*) AS waiting
FROM unnest(%(requests)s::bigint[]) AS r (request)
WHERE rlm_cachetrack_hours_are_stale(r.request);
