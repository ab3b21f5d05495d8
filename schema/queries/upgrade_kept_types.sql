-- upgrade_kept_types: Return the columns of llm_interactions that keep their type because another object uses them.
-- Parameters: none.
-- Result:     name TEXT of the column, type TEXT, dependents TEXT: the objects that use it.
SELECT
    a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
    string_agg(
        DISTINCT coalesce('view ' || w.ev_class::regclass::text, pg_describe_object(d.classid, d.objid, 0)), ', '
    ) AS dependents
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid AND t.typname IN ('varchar', 'bpchar', 'uuid', 'numeric', 'float4', 'int2', 'json')
JOIN pg_depend AS d
  ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
WHERE a.attrelid = to_regclass('llm_interactions') AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attname <> 'interaction_id'
  AND d.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass)
GROUP BY a.attnum, a.attname, a.atttypid, a.atttypmod
ORDER BY a.attnum;
