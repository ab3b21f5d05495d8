-- timescale_search_path: Add the schema of TimescaleDB's functions to the search path of this transaction.
-- Parameters: none.
-- Result:     one row; ignore it.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';
