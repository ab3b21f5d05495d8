-- migrations_applied: Return the scripts that were applied to this database.
-- Parameters: none.
-- Result:     engine, version, name, checksum (SHA-256 of the script).
SELECT engine, version, name, checksum FROM rlm_cachetrack_migrations ORDER BY version, engine;
