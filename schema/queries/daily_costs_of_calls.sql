-- daily_costs_of_calls: Return calls, tokens and cost by day, from the calls: of a query, or with tags.
-- Parameters: those of fragments/any_calls.sql.
-- Result:     as in daily_costs.
-- Without a bound it reads the raw table.
WITH parts AS (
    SELECT
        date_bin('1 day', time, 'epoch') AS bucket,
        -- include: fragments/usage_of_calls.sql
    FROM llm_interactions
    WHERE -- include: fragments/any_calls.sql
    GROUP BY 1
)
SELECT
    -- include: fragments/day_sums.sql
FROM parts
GROUP BY 1
ORDER BY 1;
