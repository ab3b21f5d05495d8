-- upgrade_key_views: Return the views that depend on a primary key that TimescaleDB refuses: they group by the key and
--             select other columns.
-- Parameters: none.
-- Result:     name TEXT of the view, key TEXT of the constraint.
SELECT DISTINCT w.ev_class::regclass::text AS name, c.conname::text AS key
FROM (VALUES ('llm_interactions', 'time'), ('token_cache_optimization', 'run_id')) AS n (name, dimension)
JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name) AND c.contype = 'p'
JOIN pg_depend AS d ON d.refclassid = 'pg_constraint'::regclass AND d.refobjid = c.oid
JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
WHERE NOT EXISTS (
    SELECT 1 FROM pg_attribute AS a
    WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = n.dimension
)
ORDER BY 1;
