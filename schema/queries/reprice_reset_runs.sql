-- reprice_reset_runs: Mark the runs of a re-pricing that is being undone, so that their sums are updated.
-- Parameters: change_id BIGINT.
-- Result:     none.
UPDATE price_change_runs SET summed = FALSE WHERE change_id = %(change_id)s AND summed;
