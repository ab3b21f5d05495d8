-- hourly_sums_lock: Take the lock of refreshes until the end of the transaction, unless another process has it.
-- Parameters: lock BIGINT: its number.
-- Result:     one row with one BOOLEAN: whether the lock was taken.
SELECT pg_try_advisory_xact_lock(%(lock)s::bigint);
