-- timescale_is_here: whether this database has the TimescaleDB extension.
-- Parameters: none.
-- Result:     one row, one BOOLEAN.
SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb');
