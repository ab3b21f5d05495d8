-- adopt_leaning: views that lean on a primary key that makes way, by grouping by it and showing other columns.
-- Parameters: citus BOOLEAN: the tables are distributed by query_id, else divided by time and run_id.
-- Result:     name TEXT of the view; key TEXT: the constraint.
SELECT DISTINCT w.ev_class::regclass::text AS name, c.conname::text AS key
FROM (
    VALUES ('llm_interactions', 'time'), ('token_cache_optimization', 'run_id'), ('query_run_summaries', 'query_id')
) AS n (name, dimension)
JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name) AND c.contype = 'p'
JOIN pg_depend AS d ON d.refclassid = 'pg_constraint'::regclass AND d.refobjid = c.oid
JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
WHERE (%(citus)s OR n.name <> 'query_run_summaries')
  AND NOT EXISTS (
      SELECT 1 FROM pg_attribute AS a
      WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        AND a.attname = CASE WHEN %(citus)s THEN 'query_id' ELSE n.dimension END
  )
ORDER BY 1;
