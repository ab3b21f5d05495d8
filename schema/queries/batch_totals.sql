-- batch_totals: Return the totals of batches whose calls may be between two times.
-- Parameters: first_time, last_time TIMESTAMPTZ: the first and the last call.
-- Result:     one row per total: query_id, run_id, time, interaction_id, response_id, prompt_tokens, completion_tokens.
-- Served by idx_llm_time. In the columnstore it reads the raw table, of these days only.
SELECT query_id, run_id, time, interaction_id, response_id, prompt_tokens, completion_tokens
FROM llm_interactions
WHERE api = 'batches'
  -- A batch ends within its completion window of 24 hours; the second day is a margin.
  AND time >= %(first_time)s::timestamptz - INTERVAL '2 days' AND time <= %(last_time)s::timestamptz;
