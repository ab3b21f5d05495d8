-- hourly_sums_delete: Delete the stored sums of some hours, before hourly_sums_insert stores them again. Plain PostgreSQL
--             only.
-- Parameters: hours TIMESTAMPTZ[].
-- Result:     none.
DELETE FROM rlm_cachetrack_hourly_sums WHERE bucket = ANY (%(hours)s::timestamptz[]);
