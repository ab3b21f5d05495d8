-- hourly_sums_insert: Store the sums of some changed hours, from their calls. Plain PostgreSQL only.
-- Parameters: hours TIMESTAMPTZ[].
-- Result:     none.
INSERT INTO rlm_cachetrack_hourly_sums
SELECT * FROM rlm_cachetrack_live_sums WHERE bucket = ANY (%(hours)s::timestamptz[]);
