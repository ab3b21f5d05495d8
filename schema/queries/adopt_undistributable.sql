-- adopt_undistributable: what of the tables to be taken over cannot be distributed by query_id. Citus only.
-- Parameters: none.
-- Result:     "table" TEXT; what TEXT: unique (an index without query_id; a primary key makes way), trigger, rule, foreign key
--             or distributed (already); name TEXT of it.
SELECT n.name AS "table", 'unique' AS what, i.indexrelid::regclass::text AS name
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_index AS i
  ON i.indrelid = to_regclass(n.name) AND (i.indisunique OR i.indisexclusion) AND NOT i.indisprimary
WHERE NOT EXISTS (
    SELECT 1 FROM pg_attribute AS a
    WHERE a.attrelid = i.indrelid AND a.attname = 'query_id' AND a.attnum = ANY (i.indkey)
)
UNION ALL
SELECT n.name, 'trigger', g.tgname::text
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_trigger AS g ON g.tgrelid = to_regclass(n.name) AND NOT g.tgisinternal
UNION ALL
SELECT n.name, 'rule', w.rulename::text
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_rewrite AS w ON w.ev_class = to_regclass(n.name)
UNION ALL
SELECT n.name, 'foreign key', c.conname::text
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name) AND c.contype = 'f'
UNION ALL
SELECT n.name, 'distributed', n.name
FROM unnest(ARRAY['llm_interactions', 'query_run_summaries', 'token_cache_optimization']) AS n (name)
JOIN pg_dist_partition AS d ON d.logicalrelid = to_regclass(n.name)
ORDER BY 1, 2, 3;
