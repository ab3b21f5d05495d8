-- session: how this library's reads want their connection, said once when it is made.
-- Parameters: none.
-- Result:     none.
-- Reads here are short, but over many chunks their estimated cost lets PostgreSQL compile them first, which takes ten
-- times as long as running them (1,000,000 calls in 30 days: 209 ms a list of runs, of which 190 are compiling).
SET jit = off;
