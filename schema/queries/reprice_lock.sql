-- reprice_lock: Return a re-pricing and lock it until the end of the transaction, so that two processes that resume it
--             never process the same batch.
-- Parameters: change_id BIGINT.
-- Result:     one row or none: all columns of price_changes.
SELECT * FROM price_changes WHERE change_id = %(change_id)s FOR UPDATE;
