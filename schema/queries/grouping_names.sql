-- grouping_names: Return names to group by and values to filter by, of the newest runs and calls.
-- Parameters: limit BIGINT: how many runs, and how many calls with tags, are read.
-- Result:     at most 100 rows of each kind, in order of their name: kind TEXT, name TEXT. metadata: a metadata key; tag: the
--             name of a tag; value: NAME=VALUE of a tag; query: a query_id of at most 200 characters.
-- Served by idx_llm_time. In the columnstore it reads the raw table, of 90 days.
WITH runs AS (
    SELECT query_id, metadata
    FROM query_run_summaries
    ORDER BY start_time DESC, query_id
    LIMIT %(limit)s
),
tags AS (
    SELECT pairs.key AS name, pairs.value
    FROM (
        SELECT tags FROM llm_interactions
        WHERE time > now() - INTERVAL '90 days' AND jsonb_typeof(tags) = 'object'
        ORDER BY time DESC
        LIMIT %(limit)s
    ) AS calls, jsonb_each_text(calls.tags) AS pairs
),
names AS (
    SELECT 'metadata' AS kind, jsonb_object_keys(metadata) AS name FROM runs WHERE jsonb_typeof(metadata) = 'object'
    UNION
    SELECT 'query', query_id FROM runs WHERE length(query_id) <= 200
    UNION
    SELECT 'tag', name FROM tags
    UNION
    SELECT 'value', name || '=' || value FROM tags
)
SELECT kind, name
FROM (SELECT kind, name, row_number() OVER (PARTITION BY kind ORDER BY name) AS number FROM names) AS numbered
WHERE number <= 100
ORDER BY kind, name;
