-- session: Set up a connection for reads.
-- Parameters: none.
-- Result:     none.
-- Reads are short, but over many chunks their estimated cost makes PostgreSQL compile them, which takes ten times as
-- long as their execution (1,000,000 calls in 30 days: 190 of 209 ms for a list of runs).
SET jit = off;
