-- copy_interactions: Insert calls by COPY; if one of them is stored already, all are rejected (SQLSTATE 23505).
-- Parameters: none; {columns} is the list of columns. Rows follow in the binary format.
-- Result:     none.
COPY llm_interactions ({columns}) FROM STDIN (FORMAT BINARY);
