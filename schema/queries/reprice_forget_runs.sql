-- reprice_forget_runs: the runs of a re-pricing that was undone need not be kept.
-- Parameters: change_id BIGINT.
-- Result:     none.
DELETE FROM price_change_runs WHERE change_id = %(change_id)s;
