-- upgrade_keyless_runs: Return the number of rows without a run in a table that must have one row per run.
-- Parameters: none; the store fills in {table}.
-- Result:     one row: keyless BIGINT.
SELECT count(*) AS keyless FROM {table} WHERE query_id IS NULL OR run_id IS NULL;
