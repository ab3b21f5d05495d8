-- reprice_batch_undone: Record that a batch of a re-pricing is undone.
-- Parameters: change_id BIGINT.
-- Result:     none.
UPDATE price_changes SET status = 'undoing', batches = batches - 1 WHERE change_id = %(change_id)s;
