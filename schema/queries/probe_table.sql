-- probe_table: Create a table; the caller rolls the transaction back. Fails where migrations would fail: on a standby, with
--             default_transaction_read_only, without a schema or the right to create tables in it.
-- Parameters: none.
-- Result:     none.
CREATE TABLE rlm_cachetrack_probe ();
