-- usage_over_time: calls, tokens, cost and hit rate by hour, day, week or month (of UTC).
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; NULL for no bound. first_hour, last_hour
--             TIMESTAMPTZ: the whole hours between them are first_hour <= hour < last_hour, NULL for no bound; they are
--             read from cache_usage_hourly, the parts of hours before and after from the calls. Where there is no whole
--             hour, both are until.
--             unit TEXT: hour, day, week or month. model TEXT: only this model, NULL for all.
-- Result:     a row a bucket in which there were calls, oldest first: bucket TIMESTAMPTZ, its beginning. cache_hit_rate:
--             0-1, weighted by tokens over the calls that reported. *_cost, cost_savings: USD over the priced calls.
--             Reads cache_usage_hourly. Without a bound it reads the raw table where that is a view.
-- Whole numbers are summed as BIGINT: the state of a sum of NUMERIC is large, and there is one for each hour.
WITH parts AS (
    SELECT
        bucket,
        -- include: fragments/usage_of_hours.sql
    FROM cache_usage_hourly
    WHERE -- include: fragments/whole_hours.sql
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
    GROUP BY 1  -- here already: by Citus on the shards
    UNION ALL
    SELECT
        date_bin('1 hour', time, 'epoch') AS bucket,  -- date_trunc looks up the zone, for each call
        -- include: fragments/usage_of_calls.sql
    FROM llm_interactions
    WHERE (%(model)s::text IS NULL OR model = %(model)s::text)
      AND -- include: fragments/partial_hours.sql
    GROUP BY 1
)
SELECT
    date_trunc(%(unit)s, bucket, 'UTC') AS bucket,
    -- include: fragments/usage_totals.sql,
    -- include: fragments/usage_hit_rate.sql AS cache_hit_rate,
    -- include: fragments/usage_costs.sql,
    sum(total_cost) / nullif(sum(priced_interactions), 0)::double precision AS avg_cost_per_interaction,
    -- include: fragments/usage_latencies.sql
FROM parts
GROUP BY 1
ORDER BY 1;
