-- reprice_runs_done: Mark the runs of reprice_stage_runs as summed, and those that have no calls left.
-- Parameters: change_id BIGINT; last_run TIMESTAMPTZ: as reprice_next_runs returns it.
-- Result:     the row count is the number of runs.
UPDATE price_change_runs SET summed = TRUE
WHERE change_id = %(change_id)s AND NOT summed AND run_id <= %(last_run)s::timestamptz;
