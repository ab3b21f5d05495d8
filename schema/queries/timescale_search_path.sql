-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';
