-- adopt_twice: runs that have more than one row in a table that is to have one row a run.
-- Parameters: none; {table} is the table, filled in by the store.
-- Result:     one row: runs BIGINT.
SELECT count(*) AS runs FROM (SELECT 1 FROM {table} GROUP BY query_id, run_id HAVING count(*) > 1) AS twice;
