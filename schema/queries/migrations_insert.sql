-- migrations_insert: Record that a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES (%(engine)s, %(version)s, %(name)s, %(checksum)s);
