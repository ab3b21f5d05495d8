-- export_interactions: Return the calls of an export, oldest first. Read it through a cursor.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; NULL for no bound. query_id, model TEXT; NULL
--             for all.
-- Result:     the columns of llm_interactions. Served by the index idx_llm_time.
-- Without a bound it reads the raw table.
SELECT *
FROM llm_interactions
WHERE -- include: fragments/export_filters.sql
ORDER BY time;
