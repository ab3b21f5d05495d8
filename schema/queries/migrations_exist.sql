-- migrations_exist: whether this database was ever migrated.
-- Parameters: none.
-- Result:     one row, one BOOLEAN.
SELECT to_regclass('rlm_cachetrack_migrations') IS NOT NULL;
