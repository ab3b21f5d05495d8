-- token_cost: the cost in USD of tokens at new prices, computed in the order of rlm_cachetrack.pricing.amounts, so that
--             both give identical results.
-- Needs:  uncached_tokens, cached_tokens, cache_write_tokens, completion_tokens; new_*_price: USD per 1,000 tokens.
(
    uncached_tokens * new_prompt_price
    + cached_tokens * new_cached_price
    + cache_write_tokens * new_cache_write_price
    + completion_tokens * new_completion_price
) / 1000
