-- reprice_runs_done: note which runs are summed up again; those without a call left, too.
-- Parameters: change_id BIGINT; size BIGINT: as in reprice_stage_runs.
-- Result:     the count of rows is the count of runs.
UPDATE price_change_runs AS p SET summed = TRUE
FROM (
    -- include: fragments/runs_to_sum.sql
) AS r
WHERE p.change_id = %(change_id)s AND p.query_id = r.query_id AND p.run_id = r.run_id;
