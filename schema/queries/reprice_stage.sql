-- reprice_stage: Create a temporary table, dropped at commit, of the calls of a batch that the new prices change, with
--             old and new values.
-- Parameters: those of fragments/repriceable.sql and fragments/rates.sql; first_time, last_time TIMESTAMPTZ: time range
--             of the batch; after_time TIMESTAMPTZ, after_id UUID: last call of the previous batch, NULL for none;
--             last_id UUID: last call of the batch.
-- Result:     none.
CREATE TEMPORARY TABLE rlm_cachetrack_repriced ON COMMIT DROP AS
WITH calls AS (
    SELECT
        query_id, run_id, time, interaction_id, model, provider, service_tier, success, prompt_tokens, cached_tokens,
        cache_write_tokens, completion_tokens, prompt_token_price, cached_token_price, cache_write_token_price,
        completion_token_price, total_cost, original_cost, price_source
    FROM llm_interactions
    WHERE time >= %(first_time)s::timestamptz AND time <= %(last_time)s::timestamptz
      AND (%(after_time)s::timestamptz IS NULL
           OR (time, interaction_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid))
      AND (time, interaction_id) <= (%(last_time)s::timestamptz, %(last_id)s::uuid)
      AND -- include: fragments/repriceable.sql
),
-- include: fragments/repriced.sql
SELECT * FROM repriced
WHERE -- include: fragments/repriced_differs.sql;
