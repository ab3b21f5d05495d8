-- calls_to_reprice: the columns of a call that a re-pricing reads or changes.
-- Needs:  rows of llm_interactions.
query_id, run_id, time, interaction_id, model, provider, service_tier, success, prompt_tokens, cached_tokens,
cache_write_tokens, completion_tokens, reasoning_tokens, token_details, tool_usage, request_options, prompt_token_price,
cached_token_price, cache_write_token_price, completion_token_price, total_cost, original_cost, price_source, charges,
unpriced_reason, cost_excludes
