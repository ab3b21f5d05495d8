-- policy_hourly_bound: Set where the refresh policy of cache_usage_hourly begins, so that it never refreshes an hour whose
--             calls retention may have dropped. TimescaleDB only.
-- Parameters: keep BOOLEAN: store the first hour that may be refreshed now, before the retention policy changes.
-- Result:     one row; ignore it.
SELECT rlm_cachetrack_bound_refresh(%(keep)s::boolean);
