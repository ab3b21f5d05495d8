-- timescale_extension: Create the extension TimescaleDB in this database.
-- Parameters: none.
-- Result:     none.
CREATE EXTENSION IF NOT EXISTS timescaledb;
