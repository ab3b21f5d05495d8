-- reprice_undo: Restore the prices and costs of the calls of a batch.
-- Parameters: change_id BIGINT, batch INTEGER; first_time, last_time TIMESTAMPTZ: time range of the batch.
-- Result:     none.
UPDATE llm_interactions AS i SET
    prompt_token_price = s.prompt_token_price,
    cached_token_price = s.cached_token_price,
    cache_write_token_price = s.cache_write_token_price,
    completion_token_price = s.completion_token_price,
    total_cost = s.total_cost,
    original_cost = s.original_cost,
    price_source = s.price_source,
    charges = s.charges,
    unpriced_reason = s.unpriced_reason,
    cost_excludes = s.cost_excludes
FROM price_change_rows AS s
WHERE s.change_id = %(change_id)s AND s.batch = %(batch)s
  AND i.query_id = s.query_id AND i.run_id = s.run_id AND i.time = s.time AND i.interaction_id = s.interaction_id
  AND i.time >= %(first_time)s::timestamptz AND i.time <= %(last_time)s::timestamptz;
