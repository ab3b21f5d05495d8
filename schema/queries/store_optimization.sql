-- store_optimization: Compute and store the cache savings of some runs; running it again stores the same rows. Stored
--             values are never replaced by sums over fewer calls, for example after retention dropped some, and stored
--             costs never by those of fewer priced calls.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element; first_call, last_call TIMESTAMPTZ:
--             as runs_bounds returns them for these runs, NULL for no bound.
-- Result:     none. cache_evolution: [{iteration, prompt_tokens, cached_tokens, cache_hit_rate}] in order; see
--             fragments/iteration_number.sql. original_cost, cached_cost, cost_savings: USD over the calls whose costs
--             are both known.
WITH runs AS (
    SELECT DISTINCT r.query_id, r.run_id
    FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS r (query_id, run_id)
),
calls AS (
    SELECT
        c.query_id, c.run_id, c.time, c.prompt_tokens, c.cached_tokens, c.total_cost, c.original_cost, c.success,
        -- include: fragments/iteration_number.sql AS iteration
    FROM runs AS r
    JOIN llm_interactions AS c ON c.query_id = r.query_id AND c.run_id = r.run_id
     AND -- include: fragments/call_time_bounds.sql
    WINDOW run AS (PARTITION BY c.query_id, c.run_id)
),
steps AS (
    SELECT
        query_id, run_id, iteration,
        coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
        sum(cached_tokens)::bigint AS cached_tokens,
        -- include: fragments/cache_hit_rate.sql AS cache_hit_rate
    FROM calls
    GROUP BY query_id, run_id, iteration
),
evolutions AS (
    SELECT
        query_id, run_id,
        jsonb_agg(
            jsonb_build_object(
                'iteration', iteration,
                'prompt_tokens', prompt_tokens,
                'cached_tokens', cached_tokens,
                'cache_hit_rate', cache_hit_rate
            ) ORDER BY iteration
        ) AS cache_evolution
    FROM steps
    GROUP BY query_id, run_id
),
listed AS (
    SELECT s.query_id, s.run_id, s.start_time
    FROM runs AS r
    JOIN query_run_summaries AS s ON s.query_id = r.query_id AND s.run_id = r.run_id
),
totals AS (
    SELECT
        query_id, run_id,
        max(time) AS time,
        -- include: fragments/interaction_counts.sql,
        coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
        100 * -- include: fragments/cache_hit_rate.sql AS cache_savings_percentage,
        -- include: fragments/cost_savings.sql,
        sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS cached_cost
    FROM calls
    GROUP BY query_id, run_id
)
INSERT INTO token_cache_optimization AS o (
    query_id, run_id, time, total_prompt_tokens, total_cached_tokens, cache_savings_tokens, cache_savings_percentage,
    original_cost, cached_cost, cost_savings, cost_savings_percentage, total_interactions, interactions_with_cache,
    interactions_without_cache, interactions_not_reported, unpriced_interactions, cache_evolution
)
SELECT
    r.query_id, r.run_id, coalesce(t.time, s.start_time), coalesce(t.total_prompt_tokens, 0),
    coalesce(t.total_cached_tokens, 0), coalesce(t.total_cached_tokens, 0), t.cache_savings_percentage,
    t.original_cost, t.cached_cost, t.cost_savings, 100 * t.cost_savings / nullif(t.original_cost, 0),
    coalesce(t.total_interactions, 0), coalesce(t.interactions_with_cache, 0),
    coalesce(t.interactions_without_cache, 0), coalesce(t.interactions_not_reported, 0),
    coalesce(t.unpriced_interactions, 0), coalesce(e.cache_evolution, '[]'::jsonb)
FROM runs AS r
LEFT JOIN totals AS t USING (query_id, run_id)
LEFT JOIN evolutions AS e USING (query_id, run_id)
LEFT JOIN listed AS s USING (query_id, run_id)
WHERE t.query_id IS NOT NULL OR s.query_id IS NOT NULL
ORDER BY r.query_id, r.run_id
ON CONFLICT (query_id, run_id) DO UPDATE SET
    time = excluded.time,
    total_prompt_tokens = excluded.total_prompt_tokens,
    total_cached_tokens = excluded.total_cached_tokens,
    cache_savings_tokens = excluded.cache_savings_tokens,
    cache_savings_percentage = excluded.cache_savings_percentage,
    total_interactions = excluded.total_interactions,
    interactions_with_cache = excluded.interactions_with_cache,
    interactions_without_cache = excluded.interactions_without_cache,
    interactions_not_reported = excluded.interactions_not_reported,
    unpriced_interactions = excluded.unpriced_interactions,
    cache_evolution = excluded.cache_evolution,
    original_cost = CASE WHEN -- include: fragments/costs_of_more_calls.sql THEN excluded.original_cost ELSE o.original_cost END,
    cached_cost = CASE WHEN -- include: fragments/costs_of_more_calls.sql THEN excluded.cached_cost ELSE o.cached_cost END,
    cost_savings = CASE WHEN -- include: fragments/costs_of_more_calls.sql THEN excluded.cost_savings ELSE o.cost_savings END,
    cost_savings_percentage = CASE WHEN -- include: fragments/costs_of_more_calls.sql THEN excluded.cost_savings_percentage ELSE o.cost_savings_percentage END
WHERE excluded.total_interactions >= o.total_interactions;
