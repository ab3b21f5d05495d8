-- migrations_lock: wait for other migrating processes; the lock ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row, to be ignored.
SELECT pg_advisory_xact_lock(%(lock)s);
