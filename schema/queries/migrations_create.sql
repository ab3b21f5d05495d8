-- migrations_create: Create the table of applied scripts, one row per script. checksum: SHA-256 of its text.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
