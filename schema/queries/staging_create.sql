-- staging_create: an empty table for calls that lives as long as this transaction.
-- Parameters: none; {definitions} are the columns and the types in which they are sent, filled in by the store. In a table
--             that was there before this library some may be wider; they are cast when they are merged.
-- Result:     none. ON COMMIT DROP holds behind a transaction-pooling PgBouncer too.
CREATE TEMPORARY TABLE rlm_cachetrack_staging ({definitions}) ON COMMIT DROP;
