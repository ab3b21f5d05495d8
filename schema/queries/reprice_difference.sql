-- reprice_difference: Return the changes of a re-pricing, by model.
-- Parameters: those of fragments/repriceable.sql and fragments/rates.sql.
-- Result:     one row per model, most changed first: total_interactions, changed_interactions; unpriced_before,
--             unpriced_after: of calls that used tokens; cost_before, cost_after: USD over the priced calls.
-- Without a bound it reads the raw table.
WITH calls AS (
    SELECT
        query_id, run_id, time, interaction_id, model, provider, service_tier, success, prompt_tokens, cached_tokens,
        cache_write_tokens, completion_tokens, prompt_token_price, cached_token_price, cache_write_token_price,
        completion_token_price, total_cost, original_cost, price_source
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
GROUP BY model
ORDER BY abs(coalesce(sum(new_total), 0) - coalesce(sum(total_cost), 0)) DESC, model;
