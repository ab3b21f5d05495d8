-- staging_merge: store what was staged, each call once, however often it is offered.
-- Parameters: none; {columns} is the list of columns, filled in by the store.
-- Result:     none.
INSERT INTO llm_interactions ({columns})
SELECT {columns} FROM rlm_cachetrack_staging
ON CONFLICT (query_id, run_id, time, interaction_id) DO NOTHING;
