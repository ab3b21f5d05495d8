-- reprice_apply: Update the calls of a batch to their new prices and costs.
-- Parameters: first_time, last_time TIMESTAMPTZ: time range of the batch, so that only its chunks are read and
--             decompressed.
-- Result:     none.
WITH s AS MATERIALIZED (SELECT * FROM rlm_cachetrack_repriced)  -- the workers of Citus do not have it
UPDATE llm_interactions AS i SET
    prompt_token_price = s.new_prompt_price,
    cached_token_price = s.new_cached_price,
    cache_write_token_price = s.new_cache_write_price,
    completion_token_price = s.new_completion_price,
    total_cost = s.new_total,
    original_cost = s.new_original,
    price_source = s.new_source,
    charges = s.new_charges,
    unpriced_reason = s.new_reason,
    cost_excludes = s.new_excludes
FROM s
WHERE i.query_id = s.query_id AND i.run_id = s.run_id AND i.time = s.time AND i.interaction_id = s.interaction_id
  AND i.time >= %(first_time)s::timestamptz AND i.time <= %(last_time)s::timestamptz;
