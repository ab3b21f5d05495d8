-- reprice_collect_runs: Save the runs of the changed calls with their stored figures.
-- Parameters: change_id BIGINT.
-- Result:     none.
INSERT INTO price_change_runs (
    change_id, query_id, run_id, optimized_interactions, original_cost, cached_cost, cost_savings,
    cost_savings_percentage, unpriced_interactions, total_interactions, total_cost
)
SELECT
    %(change_id)s, r.query_id, r.run_id, o.total_interactions, o.original_cost, o.cached_cost, o.cost_savings,
    o.cost_savings_percentage, o.unpriced_interactions, s.total_interactions, s.total_cost
FROM (SELECT DISTINCT query_id, run_id FROM price_change_rows WHERE change_id = %(change_id)s) AS r
LEFT JOIN token_cache_optimization AS o ON o.query_id = r.query_id AND o.run_id = r.run_id
LEFT JOIN query_run_summaries AS s ON s.query_id = r.query_id AND s.run_id = r.run_id
WHERE o.query_id IS NOT NULL OR s.total_interactions IS NOT NULL
ON CONFLICT (change_id, query_id, run_id) DO NOTHING;
