-- reprice_analyze: Update the planner's statistics before the runs of a re-pricing are summed, and before it is undone.
-- Parameters: none.
-- Result:     none. Without statistics the planner expects one call per batch and, in recompressed chunks, reads the
--             whole chunk for each call; autovacuum runs only once a minute. A role without the right to analyze gets a
--             warning.
ANALYZE price_change_rows, price_change_runs;
