-- reprice_lock: the state of a re-pricing, held until the end of the transaction: of two processes that continue the same
--               one, each batch is done by one.
-- Parameters: change_id BIGINT.
-- Result:     one row or none: all columns of price_changes.
SELECT * FROM price_changes WHERE change_id = %(change_id)s FOR UPDATE;
