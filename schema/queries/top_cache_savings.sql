-- top_cache_savings: the runs in which the cache saved most, by cost.
-- Parameters: limit BIGINT.
-- Result:     rows of optimization, highest cost_savings first (USD); runs without a known cost are left out.
SELECT
    -- include: fragments/optimization_columns.sql
FROM token_cache_optimization
WHERE cost_savings IS NOT NULL
ORDER BY cost_savings DESC, time DESC
LIMIT %(limit)s;
