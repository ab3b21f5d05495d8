-- staging_copy: Insert calls into the staging table by COPY.
-- Parameters: none; {columns} is the list of columns. Rows follow in the binary format.
-- Result:     none.
COPY rlm_cachetrack_staging ({columns}) FROM STDIN (FORMAT BINARY);
