-- whole_hours: condition that selects the whole hours first_hour <= hour < last_hour.
-- Needs:  rows of cache_usage_hourly.
-- Parameters: first_hour, last_hour TIMESTAMPTZ; NULL for no bound.
-- Without coalesce: a bound of infinity slows a query of the hour in progress down by half.
(%(first_hour)s::timestamptz IS NULL OR bucket >= %(first_hour)s::timestamptz)
  AND (%(last_hour)s::timestamptz IS NULL OR bucket < %(last_hour)s::timestamptz)
