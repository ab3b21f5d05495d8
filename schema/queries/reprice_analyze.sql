-- reprice_analyze: let the planner know how many calls a batch is, before they are undone.
-- Parameters: none.
-- Result:     none. Without statistics it takes a batch for a single call and, in chunks that were compressed again, reads
--             the whole chunk for each. Autovacuum comes once a minute at most. Whoever may not analyze gets a warning.
ANALYZE price_change_rows, price_change_runs;
