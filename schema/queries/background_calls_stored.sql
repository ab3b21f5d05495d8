-- background_calls_stored: Return the stored calls of background responses.
-- Parameters: ids TEXT[]: their response ids; since, until TIMESTAMPTZ: the range of their times.
-- Result:     response_id; interaction_id; request_options; is_counted: BOOLEAN, the call has its tokens, or the seconds
--             of its video.
-- Served by idx_llm_time. In the columnstore it reads the raw table, of these hours only.
SELECT response_id, interaction_id, request_options,
       prompt_tokens IS NOT NULL OR token_details IS NOT NULL AS is_counted
FROM llm_interactions
WHERE response_id = ANY(%(ids)s::text[]) AND time >= %(since)s AND time <= %(until)s;
