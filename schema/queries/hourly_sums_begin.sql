-- hourly_sums_begin: Let all statements of a refresh see the same calls and the same log. Plain PostgreSQL only; the
--             first statement of the transaction.
-- Parameters: none.
-- Result:     none.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
