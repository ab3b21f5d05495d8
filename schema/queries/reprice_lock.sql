-- reprice_lock: Return a re-pricing and lock it until the end of the transaction, so that of two processes that
--             continue it, only one processes each batch.
-- Parameters: change_id BIGINT.
-- Result:     one row or none: all columns of price_changes.
SELECT * FROM price_changes WHERE change_id = %(change_id)s FOR UPDATE;
