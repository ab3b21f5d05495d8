-- cache_effectiveness_by_model: Return calls, tokens, cost and hit rate by model and provider.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; NULL for no bound. first_hour, last_hour
--             TIMESTAMPTZ: the whole hours between them, first_hour <= hour < last_hour, NULL for no bound. Whole hours
--             are read from cache_usage_hourly, the partial hours before and after them from the calls. Without a whole
--             hour, both equal until. model, provider TEXT: only calls with these; NULL for any.
-- Result:     one row per model and provider, most prompt tokens first. avg_cache_hit_rate: 0-1, weighted by tokens over the calls
--             that reported, NULL if none did. *_cost, cost_savings: USD over the priced calls.
-- Reads cache_usage_hourly. On Citus, without a bound, it reads the raw table.
WITH parts AS (
    SELECT
        model, provider,
        -- include: fragments/usage_of_hours.sql
    FROM cache_usage_hourly
    WHERE -- include: fragments/whole_hours.sql
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
    GROUP BY 1, 2  -- so that Citus aggregates on the shards
    UNION ALL
    SELECT
        model, provider,
        -- include: fragments/usage_of_calls.sql
    FROM -- include: fragments/calls_of_partial_hours.sql
    WHERE (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
    GROUP BY model, provider
)
SELECT
    model, provider,
    -- include: fragments/usage_totals.sql,
    -- include: fragments/usage_hit_rate.sql AS avg_cache_hit_rate,
    -- include: fragments/usage_costs.sql,
    sum(total_cost) / nullif(sum(priced_interactions), 0)::double precision AS avg_cost_per_interaction,
    -- include: fragments/usage_latencies.sql
FROM parts
GROUP BY model, provider
ORDER BY total_prompt_tokens DESC, model, provider;
