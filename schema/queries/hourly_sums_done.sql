-- hourly_sums_done: Delete the log rows of some hours that this transaction sees. Rows of transactions that commit later
--             stay. Plain PostgreSQL only.
-- Parameters: hours TIMESTAMPTZ[].
-- Result:     none.
DELETE FROM rlm_cachetrack_changed_hours WHERE hour = ANY (%(hours)s::timestamptz[]);
