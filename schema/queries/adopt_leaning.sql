-- adopt_leaning: views that lean on the primary key of llm_interactions, by grouping by it and showing other columns.
-- Parameters: none.
-- Result:     name TEXT of the view; key TEXT: the constraint. Only where the key lacks the column time.
SELECT DISTINCT w.ev_class::regclass::text AS name, c.conname::text AS key
FROM pg_constraint AS c
JOIN pg_depend AS d ON d.refclassid = 'pg_constraint'::regclass AND d.refobjid = c.oid
JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
WHERE c.conrelid = to_regclass('llm_interactions') AND c.contype = 'p'
  AND NOT EXISTS (
      SELECT 1 FROM pg_attribute AS a
      WHERE a.attrelid = c.conrelid AND a.attname = 'time' AND a.attnum = ANY (c.conkey)
  )
ORDER BY 1;
