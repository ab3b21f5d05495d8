-- runs_newest_page: the newest runs, a page at a time, found by a part of their query_id.
-- Parameters: search, state, limit: as in runs_page. after_time TIMESTAMPTZ, after_query_id TEXT, after_run_id
--             TIMESTAMPTZ: start_time and key of the last row of the page before; NULL for the first page.
-- Result:     as of runs_page; key is NULL. Served by idx_query_run_summaries_start.
WITH page AS (
    SELECT s.query_id, s.run_id, s.start_time, s.end_time, s.status, t.state, s.first_call_time,
        s.last_call_time, s.total_interactions, s.failed_interactions, s.total_prompt_tokens,
        s.total_completion_tokens, s.total_cached_tokens, s.reported_prompt_tokens, s.rated_cached_tokens,
        s.total_cost, NULL::double precision AS key
    FROM query_run_summaries AS s
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN s.status <> 'running' OR s.end_time IS NOT NULL THEN s.status
            WHEN greatest(s.last_call_time, s.start_time) > now() - INTERVAL '1 hour' THEN 'running'
            ELSE 'no end'
        END AS state
    ) AS t
    WHERE s.start_time <= coalesce(%(after_time)s::timestamptz, 'infinity')
      AND (
          %(after_query_id)s::text IS NULL
          OR s.start_time < %(after_time)s::timestamptz
          OR s.query_id > %(after_query_id)s::text
          OR (s.query_id = %(after_query_id)s::text AND s.run_id < %(after_run_id)s::timestamptz)
      )
      AND (%(search)s::text IS NULL OR s.query_id ILIKE %(search)s::text)
      AND (%(state)s::text IS NULL OR t.state = %(state)s::text)
    ORDER BY s.start_time DESC, s.query_id, s.run_id DESC
    LIMIT %(limit)s
)
SELECT
    p.query_id, p.run_id, p.start_time, p.end_time, p.status, p.state,
    extract(epoch FROM p.end_time - p.start_time)::double precision * 1000 AS duration_ms,
    c.*, p.key
FROM page AS p
LEFT JOIN token_cache_optimization AS o
       ON o.query_id = p.query_id AND o.run_id = p.run_id
      AND p.reported_prompt_tokens IS NOT NULL AND o.total_interactions = p.total_interactions
CROSS JOIN LATERAL (
    SELECT
        p.total_interactions, p.failed_interactions, p.total_prompt_tokens, p.total_completion_tokens,
        p.total_cached_tokens,
        p.rated_cached_tokens::double precision / nullif(p.reported_prompt_tokens, 0) AS cache_hit_rate,
        p.total_cost, o.cost_savings
    WHERE o.query_id IS NOT NULL
    UNION ALL
    SELECT
        count(*) AS total_interactions,
        count(*) FILTER (WHERE NOT success) AS failed_interactions,
        coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
        coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
        sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL)::double precision
            / nullif(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0) AS cache_hit_rate,
        sum(total_cost) AS total_cost,
        sum(original_cost - total_cost) AS cost_savings
    FROM llm_interactions AS i
    WHERE i.query_id = p.query_id AND i.run_id = p.run_id
      AND i.time >= coalesce(p.first_call_time, '-infinity') AND i.time <= coalesce(p.last_call_time, 'infinity')
    HAVING o.query_id IS NULL  -- not one row where nothing is to be counted
) AS c
ORDER BY p.start_time DESC, p.query_id, p.run_id DESC;
