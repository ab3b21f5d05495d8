-- export_count: how many calls export_interactions gives; for the progress bar.
-- Parameters: as in export_interactions.
-- Result:     one row: interactions. Counts, so it reads an index or the table once.
--             Without a bound it reads the raw table.
SELECT count(*) AS interactions
FROM llm_interactions
WHERE -- include: fragments/export_filters.sql;
