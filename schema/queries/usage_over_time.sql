-- usage_over_time: Return calls, tokens, cost and hit rate by hour, day, week or month (UTC).
-- Parameters: since, until, first_hour, last_hour: as in cache_effectiveness_by_model. unit TEXT: hour, day, week or
--             month. model TEXT; NULL for all.
-- Result:     one row per bucket with calls, oldest first: bucket TIMESTAMPTZ: its start. cache_hit_rate: 0-1, weighted
--             by tokens over the calls that reported. *_cost, cost_savings: USD over the priced calls.
-- Reads cache_usage_hourly. Without a bound it reads the raw table if that is a view.
WITH parts AS (
    SELECT
        bucket,
        -- include: fragments/usage_of_hours.sql
    FROM cache_usage_hourly
    WHERE -- include: fragments/whole_hours.sql
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
    GROUP BY 1  -- so that Citus aggregates on the shards
    UNION ALL
    SELECT
        date_bin('1 hour', time, 'epoch') AS bucket,  -- date_trunc would look up the time zone for each call
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
