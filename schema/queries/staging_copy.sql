-- staging_copy: fill the staging table.
-- Parameters: none; {columns} is the list of columns, filled in by the store. Rows follow in the binary format.
-- Result:     none.
COPY rlm_cachetrack_staging ({columns}) FROM STDIN (FORMAT BINARY);
