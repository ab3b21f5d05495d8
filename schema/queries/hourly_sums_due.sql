-- hourly_sums_due: Return hours in which calls changed since they were summed, newest first. Plain PostgreSQL only.
-- Parameters: first, last TIMESTAMPTZ: only these hours, both included, NULL for no bound. rest_s DOUBLE PRECISION: only
--             hours that have not changed for this number of seconds. limit BIGINT.
-- Result:     hour.
SELECT hour
FROM rlm_cachetrack_changed_hours
WHERE (%(first)s::timestamptz IS NULL OR hour >= %(first)s::timestamptz)
  AND (%(last)s::timestamptz IS NULL OR hour <= %(last)s::timestamptz)
GROUP BY hour
HAVING max(changed_at) <= clock_timestamp() - make_interval(secs => %(rest_s)s::double precision)
ORDER BY hour DESC
LIMIT %(limit)s;
