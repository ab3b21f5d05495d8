-- top_cache_savings: Return the runs with the highest cost savings.
-- Parameters: limit BIGINT.
-- Result:     rows of optimization, highest cost_savings (USD) first; without the runs whose savings are unknown.
SELECT
    -- include: fragments/optimization_columns.sql
FROM token_cache_optimization
WHERE cost_savings IS NOT NULL
ORDER BY cost_savings DESC, time DESC
LIMIT %(limit)s;
