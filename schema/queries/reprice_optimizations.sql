-- reprice_optimizations: Update the costs of the optimizations of the runs in the table of reprice_stage_runs.
--             Runs that have lost calls since their end, because retention dropped some, keep their costs.
-- Parameters: none.
-- Result:     none.
WITH s AS MATERIALIZED (SELECT * FROM rlm_cachetrack_resummed)  -- the workers of Citus do not have it
UPDATE token_cache_optimization AS o SET
    original_cost = s.original_cost,
    cached_cost = s.cached_cost,
    cost_savings = s.cost_savings,
    cost_savings_percentage = 100 * s.cost_savings / nullif(s.original_cost, 0),
    unpriced_interactions = s.unpriced_interactions
FROM s
WHERE o.query_id = s.query_id AND o.run_id = s.run_id
  AND s.total_interactions >= o.total_interactions;
