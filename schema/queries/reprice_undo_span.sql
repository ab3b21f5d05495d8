-- reprice_undo_span: Return the time range of a batch that is to be undone.
-- Parameters: change_id BIGINT, batch INTEGER.
-- Result:     one row: first_time, last_time TIMESTAMPTZ, NULL if the batch changed nothing.
SELECT min(time) AS first_time, max(time) AS last_time
FROM price_change_rows
WHERE change_id = %(change_id)s AND batch = %(batch)s;
