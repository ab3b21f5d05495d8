-- hourly_is_stored: whether cache_usage_hourly is a continuous aggregate, which is to be refreshed, not a view.
-- Parameters: none.
-- Result:     one row: stored BOOLEAN.
SELECT EXISTS (
    SELECT 1 FROM rlm_cachetrack_migrations WHERE engine = 'timescale' AND name = 'cache_usage_hourly'
) AS stored;
