-- staging_merge: Insert the staged calls, except those that are stored already.
-- Parameters: none; {columns} is the list of columns.
-- Result:     none.
INSERT INTO llm_interactions ({columns})
SELECT {columns} FROM rlm_cachetrack_staging
ON CONFLICT (query_id, run_id, time, interaction_id) DO NOTHING;
