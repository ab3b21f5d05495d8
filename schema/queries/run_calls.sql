-- run_calls: Return a page of the calls of one run, in order of time.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_records returns them, NULL
--             for no bound. after_time TIMESTAMPTZ, after_id UUID: time and interaction_id of the last row of the
--             previous page; NULL for the first page. limit BIGINT.
-- Result:     columns of llm_interactions; cost_savings: USD. Served by the primary key.
SELECT
    time, interaction_id::text AS interaction_id, model, model_type, provider, api, service_tier, iteration,
    current_depth, recursion_id, parent_recursion_id, prompt_tokens, completion_tokens, cached_tokens,
    uncached_prompt_tokens, cache_write_tokens, reasoning_tokens, total_cost, original_cost,
    original_cost - total_cost AS cost_savings, duration_ms, time_to_first_token_ms, success, error_type, finish_reason,
    tool_call_count, price_source, usage_anomaly, trace_id
FROM llm_interactions
WHERE -- include: fragments/of_run.sql
  AND (
      %(after_time)s::timestamptz IS NULL
      OR (time, interaction_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid)
  )
ORDER BY time, interaction_id
LIMIT %(limit)s;
