-- whole_hours: condition that selects the whole hours first_hour <= hour < last_hour.
-- Needs:  rows of cache_usage_hourly.
-- Parameters: first_hour, last_hour TIMESTAMPTZ; NULL for no bound.
-- Without coalesce: a bound of infinity makes a query of the hour in progress 50% slower.
(%(first_hour)s::timestamptz IS NULL OR bucket >= %(first_hour)s::timestamptz)
  AND (%(last_hour)s::timestamptz IS NULL OR bucket < %(last_hour)s::timestamptz)
