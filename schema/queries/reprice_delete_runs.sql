-- reprice_delete_runs: Delete the saved runs of a re-pricing that was undone.
-- Parameters: change_id BIGINT.
-- Result:     none.
DELETE FROM price_change_runs WHERE change_id = %(change_id)s;
