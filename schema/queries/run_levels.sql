-- run_levels: Return calls, tokens, cost and hit rate of one run by recursion level.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_records returns them, NULL
--             for no bound.
-- Result:     one row per level, in the order of their first calls: recursion_id, parent_recursion_id, model_type TEXT,
--             depth INTEGER; sums with the names of fragments/usage_of_calls.sql. Served by the primary key.
SELECT
    recursion_id, parent_recursion_id, current_depth AS depth, min(model_type) AS model_type,
    -- include: fragments/usage_of_calls.sql
FROM llm_interactions
WHERE -- include: fragments/of_run.sql
GROUP BY recursion_id, parent_recursion_id, current_depth
ORDER BY min(time), recursion_id;
