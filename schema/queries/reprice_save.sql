-- reprice_save: Save the old prices and costs of the calls of a batch.
-- Parameters: change_id BIGINT, batch INTEGER.
-- Result:     none.
INSERT INTO price_change_rows (
    change_id, batch, query_id, run_id, time, interaction_id, prompt_token_price, cached_token_price,
    cache_write_token_price, completion_token_price, total_cost, original_cost, price_source,
    charges, unpriced_reason, cost_excludes
)
SELECT
    %(change_id)s, %(batch)s, query_id, run_id, time, interaction_id, prompt_token_price, cached_token_price,
    cache_write_token_price, completion_token_price, total_cost, original_cost, price_source,
    charges, unpriced_reason, cost_excludes
FROM rlm_cachetrack_repriced;
