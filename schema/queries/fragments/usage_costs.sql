-- usage_costs: costs in USD of a group of usage parts, over the priced calls.
-- Needs:  rows with the columns of usage_of_hours.
sum(total_cost) AS total_cost,
sum(original_cost) AS original_cost,
sum(original_cost) - sum(compared_cost) AS cost_savings
