-- usage_columns: the columns that usage_of_calls sums.
-- Needs:  rows of llm_interactions as c.
c.success, c.prompt_tokens, c.completion_tokens, c.cached_tokens, c.uncached_prompt_tokens, c.cache_write_tokens,
c.total_cost, c.original_cost, c.duration_ms, c.time_to_first_token_ms
