-- grouping_names: Return the names of tags and of metadata keys of the newest runs and calls, to group by.
-- Parameters: limit BIGINT: how many runs and how many calls with tags are read.
-- Result:     one row per name: kind TEXT (tag or metadata), name TEXT.
-- Served by idx_llm_time. In the columnstore it reads the raw table, of 90 days.
SELECT DISTINCT kind, name
FROM (
    SELECT 'metadata' AS kind, jsonb_object_keys(metadata) AS name
    FROM (
        SELECT metadata FROM query_run_summaries
        WHERE jsonb_typeof(metadata) = 'object'
        ORDER BY start_time DESC, query_id
        LIMIT %(limit)s
    ) AS runs
    UNION ALL
    SELECT 'tag', jsonb_object_keys(tags)
    FROM (
        SELECT tags FROM llm_interactions
        WHERE time > now() - INTERVAL '90 days' AND jsonb_typeof(tags) = 'object'
        ORDER BY time DESC
        LIMIT %(limit)s
    ) AS calls
) AS names
ORDER BY kind, name
LIMIT 100;
