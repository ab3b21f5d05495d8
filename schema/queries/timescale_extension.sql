-- timescale_extension: create the extension in this database.
-- Parameters: none.
-- Result:     none.
CREATE EXTENSION IF NOT EXISTS timescaledb;
