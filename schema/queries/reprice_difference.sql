-- reprice_difference: Return the changes of a re-pricing, by model, without the calls of reprice_detailed.
-- Parameters: those of fragments/repriceable.sql and fragments/rates.sql.
-- Result:     one row per model: total_interactions, changed_interactions; unpriced_before,
--             unpriced_after: of calls that used tokens; cost_before, cost_after: USD over the priced calls.
-- Without a bound it reads the raw table.
WITH calls AS (
    SELECT -- include: fragments/calls_to_reprice.sql
    FROM llm_interactions
    WHERE -- include: fragments/repriceable.sql
),
-- include: fragments/repriced.sql
SELECT
    model,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE
        -- include: fragments/repriced_differs.sql
    ) AS changed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_before,
    count(*) FILTER (WHERE new_total IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_after,
    sum(total_cost) AS cost_before,
    sum(new_total) AS cost_after
FROM repriced
WHERE NOT is_detailed
GROUP BY model;
