-- explain_calls: Return the calls of some runs, with the columns that explain their cache use.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element; first_call, last_call TIMESTAMPTZ:
--             as runs_bounds returns them, NULL for no bound; limit BIGINT: at most this many, the newest.
-- Result:     columns of llm_interactions, newest first; interaction_id TEXT. Served by the primary key.
WITH wanted AS (
    SELECT query_id, run_id
    FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS r (query_id, run_id)
)
SELECT
    c.query_id, c.run_id, c.time, c.interaction_id::text AS interaction_id, c.start_time, c.duration_ms,
    c.time_to_first_token_ms, c.iteration, c.recursion_id, c.model, c.provider, c.api, c.service_tier, c.success,
    c.prompt_tokens, c.completion_tokens, c.cached_tokens, c.cache_write_tokens, c.prompt_token_price,
    c.cached_token_price, c.cache_write_token_price, c.completion_token_price, c.total_cost, c.fingerprint, c.request_options,
    c.cache_diagnostics
FROM llm_interactions AS c
JOIN wanted AS r ON r.query_id = c.query_id AND r.run_id = c.run_id
WHERE -- include: fragments/call_time_bounds.sql
  AND (c.api IS NULL OR c.api <> 'embeddings')
ORDER BY c.time DESC, c.interaction_id DESC
LIMIT %(limit)s;
