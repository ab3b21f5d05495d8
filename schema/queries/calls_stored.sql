-- calls_stored: Count the calls of a batch that are in the table.
-- Parameters: query_ids, interaction_ids: of the batch; first_call, last_call: its first and last time.
-- Result:     one row: interactions.
SELECT count(DISTINCT interaction_id) AS interactions
FROM llm_interactions
WHERE time BETWEEN %(first_call)s AND %(last_call)s
  AND query_id = ANY(%(query_ids)s)
  AND interaction_id = ANY(%(interaction_ids)s::uuid[]);
