-- upgrade_refused_features: Return the features of the legacy tables that TimescaleDB does not support on a hypertable.
-- Parameters: none.
-- Result:     name TEXT of the table; "table" TEXT: the same, with its schema if needed; feature TEXT: trigger,
--             exclusion, rule, publication or row security; feature_name TEXT.
-- A trigger is listed if it has a transition table: TimescaleDB rejects such triggers per row, and with one per
-- statement a COPY into a chunk does not record late hours (observed with 2.28.3). Row security is listed for the table
-- of calls only, because continuous aggregates do not support it.
WITH tables AS (
    SELECT n.name, n.dimension, t.oid, t.oid::regclass::text AS "table", t.relrowsecurity
    FROM (VALUES ('llm_interactions', 'time'), ('token_cache_optimization', 'run_id')) AS n (name, dimension)
    JOIN pg_class AS t ON t.oid = to_regclass(n.name)
)
SELECT t.name, t."table", 'trigger' AS feature, g.tgname::text AS feature_name
FROM tables AS t
JOIN pg_trigger AS g ON g.tgrelid = t.oid
WHERE NOT g.tgisinternal AND (g.tgnewtable IS NOT NULL OR g.tgoldtable IS NOT NULL)
UNION ALL
SELECT t.name, t."table", 'exclusion', i.indexrelid::regclass::text
FROM tables AS t
JOIN pg_index AS i ON i.indrelid = t.oid AND i.indisexclusion
WHERE NOT EXISTS (
    SELECT 1 FROM pg_attribute AS a
    WHERE a.attrelid = t.oid AND a.attname = t.dimension AND a.attnum = ANY (i.indkey)
)
UNION ALL
SELECT t.name, t."table", 'rule', w.rulename::text
FROM tables AS t
JOIN pg_rewrite AS w ON w.ev_class = t.oid
UNION ALL
SELECT t.name, t."table", 'publication', p.pubname::text
FROM tables AS t
JOIN pg_publication_rel AS r ON r.prrelid = t.oid
JOIN pg_publication AS p ON p.oid = r.prpubid
UNION ALL
SELECT t.name, t."table", 'row security', t.name
FROM tables AS t
WHERE t.relrowsecurity AND t.name = 'llm_interactions'
ORDER BY 1, 3, 4;
