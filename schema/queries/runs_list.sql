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
)
SELECT
    n.query_id, n.run_id, n.start_time, n.end_time, n.status,
    CASE
        WHEN n.status <> 'running' OR n.end_time IS NOT NULL THEN n.status
        WHEN greatest(n.last_call_time, n.start_time) > now() - INTERVAL '1 hour' THEN 'running'
        ELSE 'no end'
    END AS state,
    c.total_interactions, c.failed_interactions, c.total_prompt_tokens, c.total_completion_tokens,
    c.total_cached_tokens, c.cache_hit_rate, c.total_cost, c.cost_savings, n.metadata
FROM newest AS n
LEFT JOIN token_cache_optimization AS o
       ON o.query_id = n.query_id AND o.run_id = n.run_id
      AND n.reported_prompt_tokens IS NOT NULL AND o.total_interactions = n.total_interactions
CROSS JOIN LATERAL (
    SELECT
        n.total_interactions, n.failed_interactions, n.total_prompt_tokens, n.total_completion_tokens,
        n.total_cached_tokens,
        n.rated_cached_tokens::double precision / nullif(n.reported_prompt_tokens, 0) AS cache_hit_rate,
        n.total_cost, o.cost_savings
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
    WHERE i.query_id = n.query_id AND i.run_id = n.run_id
      AND i.time >= coalesce(n.first_call_time, '-infinity') AND i.time <= coalesce(n.last_call_time, 'infinity')
    HAVING o.query_id IS NULL  -- not one row where nothing is to be counted
) AS c
ORDER BY n.start_time DESC, n.query_id, n.run_id DESC;
