-- adopt_rows: what the rows that are there lack. Reads the whole table.
-- Parameters: none.
-- Result:     one row: calls BIGINT; without_run BIGINT, calls without query_id or run_id.
SELECT count(*) AS calls, count(*) FILTER (WHERE query_id IS NULL OR run_id IS NULL) AS without_run
FROM llm_interactions;
