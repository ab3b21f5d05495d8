-- export_count: how many calls export_interactions gives; for the progress bar.
-- Parameters: as in export_interactions.
-- Result:     one row: interactions. Counts, so it reads an index or the table once.
--             Without a bound it reads the raw table.
SELECT count(*) AS interactions
FROM llm_interactions
WHERE time >= coalesce(%(since)s::timestamptz, '-infinity')
  AND time < coalesce(%(until)s::timestamptz, 'infinity')
  AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
  AND (%(model)s::text IS NULL OR model = %(model)s::text);
