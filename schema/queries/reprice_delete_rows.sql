-- reprice_delete_rows: Delete the saved prices and costs of a batch that was undone.
-- Parameters: change_id BIGINT, batch INTEGER.
-- Result:     the row count is the number of calls.
DELETE FROM price_change_rows WHERE change_id = %(change_id)s AND batch = %(batch)s;
