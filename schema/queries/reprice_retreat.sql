-- reprice_retreat: note that a batch is undone.
-- Parameters: change_id BIGINT.
-- Result:     none.
UPDATE price_changes SET status = 'undoing', batches = batches - 1 WHERE change_id = %(change_id)s;
