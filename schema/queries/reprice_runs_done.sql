-- reprice_runs_done: Mark the runs of reprice_stage_runs as summed, and those that have no calls left.
-- Parameters: change_id BIGINT; size BIGINT: as in reprice_stage_runs.
-- Result:     the row count is the number of runs.
UPDATE price_change_runs AS p SET summed = TRUE
FROM (
    -- include: fragments/runs_to_sum.sql
) AS r
WHERE p.change_id = %(change_id)s AND p.query_id = r.query_id AND p.run_id = r.run_id;
