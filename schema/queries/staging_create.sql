-- staging_create: an empty table like llm_interactions that lives as long as this transaction.
-- Parameters: none; {columns} is the list of columns, filled in by the store.
-- Result:     none. ON COMMIT DROP holds behind a transaction-pooling PgBouncer too.
CREATE TEMPORARY TABLE rlm_cachetrack_staging ON COMMIT DROP AS
SELECT {columns} FROM llm_interactions WITH NO DATA;
