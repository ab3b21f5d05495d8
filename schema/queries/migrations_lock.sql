-- migrations_lock: Wait for other migrating processes; the lock is released at the end of the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row; ignore it.
SELECT pg_advisory_xact_lock(%(lock)s);
