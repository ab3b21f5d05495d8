-- staging_create: Create an empty temporary table for calls, dropped at commit.
-- Parameters: none; {definitions} are the columns and the types in which they are sent. A legacy table may have wider
--             types, to which staging_merge casts.
-- Result:     none. ON COMMIT DROP also works behind a PgBouncer in transaction mode.
CREATE TEMPORARY TABLE rlm_cachetrack_staging ({definitions}) ON COMMIT DROP;
