-- first_hour: Return the first hour with stored calls, from the hourly sums, which remain when old calls are deleted.
-- Parameters: until TIMESTAMPTZ: only hours before it.
-- Result:     one row: first_hour TIMESTAMPTZ, NULL without calls.
SELECT min(bucket) AS first_hour
FROM cache_usage_hourly
WHERE bucket < %(until)s::timestamptz;
