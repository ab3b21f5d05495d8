-- migrations_exist: Return whether this database has the table of applied scripts.
-- Parameters: none.
-- Result:     one row, one BOOLEAN.
SELECT to_regclass('rlm_cachetrack_migrations') IS NOT NULL;
