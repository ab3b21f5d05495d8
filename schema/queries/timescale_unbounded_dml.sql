-- timescale_unbounded_dml: let this transaction unpack as many rows of the columnstore as it needs. Without TimescaleDB it does nothing.
-- Parameters: none.
-- Result:     one row without meaning. The default limit of 100,000 rows would refuse a late batch for ever.
SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
