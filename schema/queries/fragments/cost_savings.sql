-- cost_savings: the original cost of calls and the cache savings, in USD, over the calls whose costs are both known.
-- Needs:  rows of llm_interactions.
sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
sum(original_cost - total_cost) AS cost_savings
