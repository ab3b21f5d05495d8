-- adopt_rows: what the rows that are there lack. Reads the raw table.
-- Parameters: none.
-- Result:     one row: calls BIGINT; without_run BIGINT, calls without query_id or run_id.
--             The cast keeps TimescaleDB (2.28) from looking for NULLs in packed VARCHARs, which it cannot.
SELECT count(*) AS calls, count(*) FILTER (WHERE query_id::text IS NULL OR run_id IS NULL) AS without_run
FROM llm_interactions;
