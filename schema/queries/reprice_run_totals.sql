-- reprice_run_totals: Update the costs of ended runs in the table of reprice_stage_runs.
--             Runs that have lost calls since their end, because retention dropped some, keep their costs.
-- Parameters: none.
-- Result:     none.
WITH s AS MATERIALIZED (SELECT * FROM rlm_cachetrack_resummed)  -- the workers of Citus do not have it
UPDATE query_run_summaries AS r SET total_cost = s.total_cost
FROM s
WHERE r.query_id = s.query_id AND r.run_id = s.run_id AND s.total_interactions >= r.total_interactions;
