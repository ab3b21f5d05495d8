-- copy_interactions: store calls that were never offered before; one that is there already fails them all (23505).
-- Parameters: none; {columns} is the list of columns, filled in by the store. Rows follow in the binary format.
-- Result:     none.
COPY llm_interactions ({columns}) FROM STDIN (FORMAT BINARY);
