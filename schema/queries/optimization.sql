-- optimization: Return the stored cache savings of one run.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ.
-- Result:     one row, none if nothing is stored. *_percentage: 0-100. *_cost, cost_savings: USD. Rates in
--             cache_evolution: 0-1.
SELECT
    -- include: fragments/optimization_columns.sql
FROM token_cache_optimization
WHERE query_id = %(query_id)s AND run_id = %(run_id)s;
