-- reprice_run_totals: the same for the totals of runs that have ended.
-- Parameters: none.
-- Result:     none.
WITH s AS MATERIALIZED (SELECT * FROM rlm_cachetrack_resummed)  -- Citus would look for it on its workers
UPDATE query_run_summaries AS r SET total_cost = s.total_cost
FROM s
WHERE r.query_id = s.query_id AND r.run_id = s.run_id AND r.total_interactions IS NOT NULL;
