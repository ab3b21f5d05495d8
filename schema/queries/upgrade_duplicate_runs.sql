-- upgrade_duplicate_runs: Return the number of runs with more than one row in a table that must have one row per run.
-- Parameters: none; the store fills in {table}.
-- Result:     one row: runs BIGINT.
SELECT count(*) AS runs FROM (SELECT 1 FROM {table} GROUP BY query_id, run_id HAVING count(*) > 1) AS duplicates;
