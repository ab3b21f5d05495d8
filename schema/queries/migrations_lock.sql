-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(%(lock)s);
