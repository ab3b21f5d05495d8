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
),
saved AS (
    SELECT o.query_id, o.run_id, o.cost_savings
    FROM page AS p
    JOIN token_cache_optimization AS o
      ON o.query_id = p.query_id AND o.run_id = p.run_id
     AND p.reported_prompt_tokens IS NOT NULL AND o.total_interactions = p.total_interactions
),
unsaved AS MATERIALIZED (
    SELECT p.query_id, p.run_id, p.first_call_time, p.last_call_time
    FROM page AS p
    LEFT JOIN saved AS v ON v.query_id = p.query_id AND v.run_id = p.run_id
    WHERE v.query_id IS NULL
),
counted AS (
    SELECT c.*
    FROM unsaved AS u
    CROSS JOIN LATERAL (  -- one run after the other, each by its key
        SELECT
            i.query_id, i.run_id,
            count(*) AS total_interactions,
            count(*) FILTER (WHERE NOT i.success) AS failed_interactions,
            coalesce(sum(i.prompt_tokens), 0)::bigint AS total_prompt_tokens,
            coalesce(sum(i.completion_tokens), 0)::bigint AS total_completion_tokens,
            coalesce(sum(i.cached_tokens), 0)::bigint AS total_cached_tokens,
            sum(i.cached_tokens) FILTER (WHERE i.prompt_tokens IS NOT NULL)::double precision
                / nullif(sum(i.prompt_tokens) FILTER (WHERE i.cached_tokens IS NOT NULL), 0) AS cache_hit_rate,
            sum(i.total_cost) AS total_cost,
            sum(i.original_cost - i.total_cost) AS cost_savings
        FROM llm_interactions AS i
        WHERE i.query_id = u.query_id AND i.run_id = u.run_id
          AND i.time >= coalesce(u.first_call_time, '-infinity') AND i.time <= coalesce(u.last_call_time, 'infinity')
        GROUP BY i.query_id, i.run_id
    ) AS c
),
figures AS (
    SELECT
        p.query_id, p.run_id, p.total_interactions, p.failed_interactions, p.total_prompt_tokens,
        p.total_completion_tokens, p.total_cached_tokens,
        p.rated_cached_tokens::double precision / nullif(p.reported_prompt_tokens, 0) AS cache_hit_rate,
        p.total_cost, v.cost_savings
    FROM page AS p
    JOIN saved AS v ON v.query_id = p.query_id AND v.run_id = p.run_id
    UNION ALL
    SELECT
        query_id, run_id, total_interactions, failed_interactions, total_prompt_tokens, total_completion_tokens,
        total_cached_tokens, cache_hit_rate, total_cost, cost_savings
    FROM counted
)
SELECT
    p.query_id, p.run_id, p.start_time, p.end_time, p.status, p.state,
    extract(epoch FROM p.end_time - p.start_time)::double precision * 1000 AS duration_ms,
    coalesce(f.total_interactions, 0) AS total_interactions, coalesce(f.failed_interactions, 0) AS failed_interactions,
    coalesce(f.total_prompt_tokens, 0) AS total_prompt_tokens,
    coalesce(f.total_completion_tokens, 0) AS total_completion_tokens,
    coalesce(f.total_cached_tokens, 0) AS total_cached_tokens, f.cache_hit_rate, f.total_cost, f.cost_savings,
    p.key
FROM page AS p
LEFT JOIN figures AS f ON f.query_id = p.query_id AND f.run_id = p.run_id
ORDER BY p.start_time DESC, p.query_id, p.run_id DESC;
