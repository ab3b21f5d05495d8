-- repriced_differs: condition that selects the calls whose prices or costs a re-pricing changes.
-- Needs:  rows of repriced.
(
    prompt_token_price, cached_token_price, cache_write_token_price, completion_token_price, total_cost, original_cost,
    charges, unpriced_reason, cost_excludes
) IS DISTINCT FROM (
    new_prompt_price, new_cached_price, new_cache_write_price, new_completion_price, new_total, new_original,
    new_charges, new_reason, new_excludes
)
