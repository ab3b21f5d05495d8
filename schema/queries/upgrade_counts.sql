-- upgrade_counts: Return the number of legacy calls. Reads the raw table.
-- Parameters: none.
-- Result:     one row: calls BIGINT; without_run BIGINT, calls without query_id or run_id.
--             The cast to text avoids a bug of TimescaleDB 2.28: it cannot search compressed VARCHARs for NULLs.
SELECT count(*) AS calls, count(*) FILTER (WHERE query_id::text IS NULL OR run_id IS NULL) AS without_run
FROM llm_interactions;
