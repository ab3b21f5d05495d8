-- interactions_of_run: every call of one run.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ.
-- Result:     the columns of llm_interactions, a row a call, in order of time.
SELECT *
FROM llm_interactions
WHERE query_id = %(query_id)s AND run_id = %(run_id)s
ORDER BY time, interaction_id;
