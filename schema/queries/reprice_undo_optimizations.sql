-- reprice_undo_optimizations: Restore the stored optimizations exactly: the sum of the same costs may be rounded
--             differently. Runs with newer calls keep their new sums.
-- Parameters: change_id BIGINT.
-- Result:     none.
UPDATE token_cache_optimization AS o SET
    original_cost = s.original_cost,
    cached_cost = s.cached_cost,
    cost_savings = s.cost_savings,
    cost_savings_percentage = s.cost_savings_percentage,
    unpriced_interactions = s.unpriced_interactions
FROM price_change_runs AS s
WHERE s.change_id = %(change_id)s AND o.query_id = s.query_id AND o.run_id = s.run_id
  AND o.total_interactions = s.optimized_interactions;
