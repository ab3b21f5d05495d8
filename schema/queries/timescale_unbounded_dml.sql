-- timescale_unbounded_dml: Let this transaction decompress any number of rows of the columnstore. Without TimescaleDB
--             it has no effect.
-- Parameters: none.
-- Result:     one row; ignore it. The default limit of 100,000 rows would reject a late batch at every attempt.
SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
