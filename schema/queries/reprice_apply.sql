-- reprice_apply: give the calls of a batch their new prices and costs.
-- Parameters: first_time, last_time TIMESTAMPTZ: of the batch, so that only their chunks are looked at (and decompressed).
-- Result:     none.
WITH s AS MATERIALIZED (SELECT * FROM rlm_cachetrack_repriced)  -- Citus would look for it on its workers
UPDATE llm_interactions AS i SET
    prompt_token_price = s.new_prompt_price,
    cached_token_price = s.new_cached_price,
    cache_write_token_price = s.new_cache_write_price,
    completion_token_price = s.new_completion_price,
    total_cost = s.new_total,
    original_cost = s.new_original,
    price_source = s.new_source
FROM s
WHERE i.query_id = s.query_id AND i.run_id = s.run_id AND i.time = s.time AND i.interaction_id = s.interaction_id
  AND i.time >= %(first_time)s::timestamptz AND i.time <= %(last_time)s::timestamptz;
