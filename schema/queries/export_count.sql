-- export_count: Return the number of calls that export_interactions returns, for the progress bar.
-- Parameters: as in export_interactions.
-- Result:     one row: interactions. Reads an index or the table once.
-- Without a bound it reads the raw table.
SELECT count(*) AS interactions
FROM llm_interactions
WHERE -- include: fragments/any_calls.sql;
