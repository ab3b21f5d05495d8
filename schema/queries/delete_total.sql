-- delete_total: Delete one call.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, time TIMESTAMPTZ, interaction_id UUID: its key.
-- Result:     none; the row count is 1, or 0 if there is no such call.
DELETE FROM llm_interactions
WHERE query_id = %(query_id)s AND run_id = %(run_id)s::timestamptz AND time = %(time)s::timestamptz
  AND interaction_id = %(interaction_id)s::uuid;
