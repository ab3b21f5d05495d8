-- export_interactions: Return the calls of an export, oldest first. Read it through a cursor.
-- Parameters: those of fragments/any_calls.sql.
-- Result:     the columns of llm_interactions. Served by the index idx_llm_time.
-- Without a bound it reads the raw table.
SELECT *
FROM llm_interactions
WHERE -- include: fragments/any_calls.sql
ORDER BY time;
