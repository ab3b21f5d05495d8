-- adopt_keyless: rows of a table of runs that say of no run.
-- Parameters: none; {table} is the table, filled in by the store.
-- Result:     one row: keyless BIGINT.
SELECT count(*) AS keyless FROM {table} WHERE query_id IS NULL OR run_id IS NULL;
