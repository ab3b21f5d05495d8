-- runs_list: the newest runs.
-- Parameters: query_id TEXT: only its runs, NULL for all. limit BIGINT.
-- Result:     a row a run, newest first; a run is there once its start or a call of it is stored. total_interactions
--             and the sums are those stored when the run ended (late calls included); of other runs they are counted
--             from the calls, so a run in progress shows them too. total_cost: USD over the priced calls.
--             cache_hit_rate: 0-1 over the calls that reported. state: the status, but 'no end' for a run whose end is
--             not stored and that no call came to for an hour. Served by idx_query_run_summaries_start, or by the
--             primary key for one query.
WITH newest AS (
    SELECT
        query_id, run_id, start_time, end_time, status, metadata, first_call_time, last_call_time, total_interactions,
        failed_interactions, total_prompt_tokens, total_completion_tokens, total_cached_tokens, reported_prompt_tokens,
        rated_cached_tokens, total_cost
    FROM query_run_summaries
    WHERE %(query_id)s::text IS NULL OR query_id = %(query_id)s::text
    ORDER BY start_time DESC, query_id, run_id DESC
    LIMIT %(limit)s
),
saved AS (
    SELECT o.query_id, o.run_id, o.cost_savings
    FROM newest AS n
    JOIN token_cache_optimization AS o
      ON o.query_id = n.query_id AND o.run_id = n.run_id
     AND n.reported_prompt_tokens IS NOT NULL AND o.total_interactions = n.total_interactions
),
unsaved AS MATERIALIZED (
    SELECT n.query_id, n.run_id, n.first_call_time, n.last_call_time
    FROM newest AS n
    LEFT JOIN saved AS v ON v.query_id = n.query_id AND v.run_id = n.run_id
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
        n.query_id, n.run_id, n.total_interactions, n.failed_interactions, n.total_prompt_tokens,
        n.total_completion_tokens, n.total_cached_tokens,
        n.rated_cached_tokens::double precision / nullif(n.reported_prompt_tokens, 0) AS cache_hit_rate,
        n.total_cost, v.cost_savings
    FROM newest AS n
    JOIN saved AS v ON v.query_id = n.query_id AND v.run_id = n.run_id
    UNION ALL
    SELECT
        query_id, run_id, total_interactions, failed_interactions, total_prompt_tokens, total_completion_tokens,
        total_cached_tokens, cache_hit_rate, total_cost, cost_savings
    FROM counted
)
SELECT
    n.query_id, n.run_id, n.start_time, n.end_time, n.status,
    CASE
        WHEN n.status <> 'running' OR n.end_time IS NOT NULL THEN n.status
        WHEN greatest(n.last_call_time, n.start_time) > now() - INTERVAL '1 hour' THEN 'running'
        ELSE 'no end'
    END AS state,
    coalesce(f.total_interactions, 0) AS total_interactions, coalesce(f.failed_interactions, 0) AS failed_interactions,
    coalesce(f.total_prompt_tokens, 0) AS total_prompt_tokens,
    coalesce(f.total_completion_tokens, 0) AS total_completion_tokens,
    coalesce(f.total_cached_tokens, 0) AS total_cached_tokens, f.cache_hit_rate, f.total_cost, f.cost_savings,
    n.metadata
FROM newest AS n
LEFT JOIN figures AS f ON f.query_id = n.query_id AND f.run_id = n.run_id
ORDER BY n.start_time DESC, n.query_id, n.run_id DESC;
