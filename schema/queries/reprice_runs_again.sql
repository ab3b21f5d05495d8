-- reprice_runs_again: the runs of a re-pricing that is undone are to be summed up once more.
-- Parameters: change_id BIGINT.
-- Result:     none.
UPDATE price_change_runs SET summed = FALSE WHERE change_id = %(change_id)s AND summed;
