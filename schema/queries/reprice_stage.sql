-- reprice_stage: the calls of a batch that the new prices change, with both, in a table as long as this transaction.
-- Parameters: rates, since, until, model, query_id as in reprice_difference; first_time, last_time TIMESTAMPTZ: the times of
--             the batch; after_time TIMESTAMPTZ, after_id UUID: the last call of the batch before, NULL for none;
--             last_id UUID: the batch's last call.
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
