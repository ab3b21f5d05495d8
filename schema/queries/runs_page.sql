-- runs_page: runs by a figure of theirs, a page at a time, found by a part of their query_id.
-- Parameters: search TEXT: in the query_id, in upper or lower case, as a LIKE pattern; NULL for all. state TEXT or
--             NULL: as in the result. sort TEXT: duration, calls, tokens, cost, saved, hit_rate or start. direction INTEGER: 1 highest first, -1
--             lowest first. after_key DOUBLE PRECISION, after_query_id TEXT, after_run_id TIMESTAMPTZ: of the last row of
--             the page before; NULL for the first page. limit BIGINT.
-- Result:     a row a run. state: as in runs_list. key is what it is sorted by, as after_key takes it. Runs are sorted
--             by the totals that were stored when they ended, and those that have none come last; what is shown is
--             the same, and for the others counted from the calls.
--             Reads the tables of runs, one row a run; the calls only of runs of the page that have no stored totals.
WITH listed AS (
    SELECT
        s.query_id, s.run_id, s.start_time, s.end_time, s.status, t.state, s.first_call_time, s.last_call_time,
        s.total_interactions, s.failed_interactions, s.total_prompt_tokens, s.total_completion_tokens,
        s.total_cached_tokens, s.reported_prompt_tokens, s.rated_cached_tokens, s.total_cost,
        coalesce(
            %(direction)s::integer * CASE %(sort)s::text
                WHEN 'duration' THEN extract(epoch FROM s.end_time - s.start_time)::double precision
                WHEN 'calls' THEN s.total_interactions::double precision
                WHEN 'tokens' THEN s.total_prompt_tokens::double precision
                WHEN 'cost' THEN s.total_cost
                WHEN 'saved' THEN o.cost_savings
                WHEN 'hit_rate' THEN o.cache_savings_percentage
                ELSE extract(epoch FROM s.start_time)::double precision
            END,
            '-infinity'
        ) AS key
    FROM query_run_summaries AS s
    LEFT JOIN token_cache_optimization AS o USING (query_id, run_id)
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN s.status <> 'running' OR s.end_time IS NOT NULL THEN s.status
            WHEN greatest(s.last_call_time, s.start_time) > now() - INTERVAL '1 hour' THEN 'running'
            ELSE 'no end'
        END AS state
    ) AS t
    WHERE (%(search)s::text IS NULL OR s.query_id ILIKE %(search)s::text)
      AND (%(state)s::text IS NULL OR t.state = %(state)s::text)
),
page AS (
    SELECT *
    FROM listed
    WHERE %(after_query_id)s::text IS NULL
       OR (key, query_id, run_id)
            < (%(after_key)s::double precision, %(after_query_id)s::text, %(after_run_id)s::timestamptz)
    ORDER BY key DESC, query_id DESC, run_id DESC
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
ORDER BY p.key DESC, p.query_id DESC, p.run_id DESC;
