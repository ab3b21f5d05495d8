-- columnstore_merge: Move the calls of a chunk that are outside of the columnstore into it. TimescaleDB only; not in a
--             transaction.
-- Parameters: chunk TEXT; {functions} is the schema of TimescaleDB's functions.
-- Result:     none; a notice if there is nothing to do.
CALL {functions}.convert_to_columnstore(%(chunk)s::regclass, if_not_columnstore => TRUE);
