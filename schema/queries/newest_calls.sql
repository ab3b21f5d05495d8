-- newest_calls: Return the newest calls.
-- Parameters: those of fragments/any_calls.sql; limit BIGINT.
-- Result:     one row per call, newest first: time, query_id, run_id, interaction_id, iteration, provider, model,
--             prompt_tokens, cached_tokens, total_cost (USD), duration_ms, success, error_type. Needs a lower bound of
--             time, so that TimescaleDB opens few chunks.
SELECT
    time, query_id, run_id, interaction_id, iteration, provider, model, prompt_tokens, cached_tokens, total_cost,
    duration_ms, success, error_type
FROM llm_interactions
WHERE -- include: fragments/any_calls.sql
ORDER BY time DESC, interaction_id DESC
LIMIT %(limit)s;
