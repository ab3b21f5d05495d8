-- explain_neighbours: Return the other runs that called the same models before a run and so may have filled its cache.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ: the run; since, until TIMESTAMPTZ; models TEXT[]; of_query BIGINT: the
--             most runs of the same query; newest BIGINT: how many of the newest calls are searched for other runs;
--             limit BIGINT: the most runs.
-- Result:     one row per run, those of the same query first, then the newest first: query_id, run_id, last_time.
--             Served by the primary key of query_run_summaries and by idx_llm_time; the number of rows that are read
--             does not grow with the length of the period.
WITH of_query AS (
    SELECT s.query_id, s.run_id, s.last_call_time AS last_time
    FROM query_run_summaries AS s
    WHERE s.query_id = %(query_id)s AND s.run_id <> %(run_id)s
      AND s.last_call_time >= %(since)s::timestamptz AND s.first_call_time <= %(until)s::timestamptz
    ORDER BY s.last_call_time DESC
    LIMIT %(of_query)s
), newest AS (
    SELECT c.query_id, c.run_id, c.time, c.model, c.fingerprint IS NOT NULL AS has_fingerprint
    FROM llm_interactions AS c
    WHERE c.time >= %(since)s::timestamptz AND c.time <= %(until)s::timestamptz
    ORDER BY c.time DESC
    LIMIT %(newest)s
), found AS (
    SELECT query_id, run_id, max(last_time) AS last_time
    FROM (
        SELECT query_id, run_id, last_time FROM of_query
        UNION ALL
        SELECT query_id, run_id, time FROM newest WHERE model = ANY(%(models)s::text[]) AND has_fingerprint
    ) AS runs
    WHERE NOT (query_id = %(query_id)s AND run_id = %(run_id)s)
    GROUP BY query_id, run_id
)
SELECT query_id, run_id, last_time
FROM found
ORDER BY query_id = %(query_id)s DESC, last_time DESC, query_id, run_id
LIMIT %(limit)s;
