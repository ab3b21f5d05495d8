-- upgrade_refused_features: Return the features of the legacy tables that TimescaleDB refuses on a hypertable.
-- Parameters: none.
-- Result:     name TEXT of the table; "table" TEXT: the same, with its schema if needed; feature TEXT: trigger (with a
--             transition table: refused per row; per statement, chunks accept COPY without recording late hours,
--             observed with 2.28.3), exclusion, rule, publication, or row security (refused by continuous aggregates,
--             so for calls only); feature_name TEXT.
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
