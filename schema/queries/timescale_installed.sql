-- timescale_installed: Return whether this database has the extension TimescaleDB.
-- Parameters: none.
-- Result:     one row with one BOOLEAN.
SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb');
