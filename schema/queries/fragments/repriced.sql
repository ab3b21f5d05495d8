-- repriced: CTEs that give calls their new prices and costs.
-- Needs:  CTE calls: rows of llm_interactions.
-- Parameters: those of rates.
-- Result: CTE repriced: the calls with new_*_price, new_total, new_original: USD, NULL if unknown; new_source.
--         A cost that the provider reported is kept.
-- include: fragments/rates.sql,
priced AS (
    SELECT
        c.query_id, c.run_id, c.time, c.interaction_id, c.model, c.success, c.prompt_tokens,
        c.prompt_token_price, c.cached_token_price, c.cache_write_token_price, c.completion_token_price,
        c.total_cost, c.original_cost, c.price_source,
        r.prompt AS new_prompt_price, r.cached AS new_cached_price, r.cache_write AS new_cache_write_price,
        r.completion AS new_completion_price, r.source, r.by_tokens_alone,
        greatest(c.prompt_tokens - coalesce(c.cached_tokens, 0) - coalesce(c.cache_write_tokens, 0), 0) AS uncached_tokens,
        coalesce(c.cached_tokens, 0) AS cached_tokens,
        coalesce(c.cache_write_tokens, 0) AS cache_write_tokens,
        coalesce(c.completion_tokens, 0) AS completion_tokens
    FROM calls AS c
    JOIN rates AS r
      ON r.model = c.model
     AND r.provider = coalesce(c.provider, '')
     AND r.service_tier = coalesce(c.service_tier, '')
     AND c.time >= r.valid_from AND c.time <= r.valid_to
     AND coalesce(c.prompt_tokens, 0) > r.above AND coalesce(c.prompt_tokens, 0) <= r.up_to
),
costed AS (
    SELECT
        *,
        CASE WHEN prompt_tokens IS NOT NULL THEN -- include: fragments/token_cost.sql
        END AS total,
        (prompt_tokens * new_prompt_price + completion_tokens * new_completion_price) / 1000 AS original
    FROM priced
),
repriced AS (
    SELECT
        query_id, run_id, time, interaction_id, model, success, prompt_tokens,
        prompt_token_price, cached_token_price, cache_write_token_price, completion_token_price,
        total_cost, original_cost, price_source,
        new_prompt_price, new_cached_price, new_cache_write_price, new_completion_price,
        CASE
            WHEN price_source = 'provider' THEN total_cost
            WHEN by_tokens_alone THEN total
        END AS new_total,
        CASE
            WHEN price_source = 'provider' THEN total_cost + (original - total)
            WHEN by_tokens_alone THEN original
        END AS new_original,
        CASE WHEN price_source = 'provider' THEN price_source ELSE source END AS new_source
    FROM costed
)
