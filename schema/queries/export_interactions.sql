-- export_interactions: calls for an export, the oldest first; read through a cursor, a few at a time.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; NULL for no bound. query_id, model TEXT: only
--             theirs, NULL for all.
-- Result:     the columns of llm_interactions. Served by the index idx_llm_time.
--             Without a bound it reads the raw table.
SELECT *
FROM llm_interactions
WHERE -- include: fragments/export_filters.sql
ORDER BY time;
