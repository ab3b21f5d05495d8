-- interactions_of_run: Return every call of one run.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_records returns them, NULL
--             for no bound.
-- Result:     the columns of llm_interactions, in order of time.
SELECT *
FROM llm_interactions
WHERE -- include: fragments/of_run.sql
ORDER BY time, interaction_id;
