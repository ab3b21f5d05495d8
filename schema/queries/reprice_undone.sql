-- reprice_undone: what a batch had is given back, and need not be kept.
-- Parameters: change_id BIGINT, batch INTEGER.
-- Result:     the count of rows is the count of calls.
DELETE FROM price_change_rows WHERE change_id = %(change_id)s AND batch = %(batch)s;
