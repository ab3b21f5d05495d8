-- decompress_freely: let this transaction change as many compressed rows as it needs; without TimescaleDB it does nothing.
-- Parameters: none.
-- Result:     one row, of no interest.
SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
