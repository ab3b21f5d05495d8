-- experiment_runs: Return the runs of a time range that ended or were judged, with their group, outcome, cost and tokens.
-- Parameters: since, until TIMESTAMPTZ: runs that began in since <= start < until; query_id TEXT: only its runs; NULL for
--             any. grouping TEXT: metadata, tag, query, label or model; key TEXT: the path of a metadata key, with dots,
--             or the name of a tag; NULL for the other groupings.
-- Result:     one row per run: "group" TEXT, NULL for a run without the key (model: the names of all its models);
--             success BOOLEAN, score DOUBLE PRECISION: NULL if not judged; duration_ms; interactions, prompt_tokens,
--             completion_tokens, cached_tokens, reported_prompt_tokens, unpriced_interactions BIGINT; total_cost,
--             original_cost: USD over the priced calls, NULL if there are none.
-- Reads the totals that were stored when the runs ended, and the calls of runs without them. If it groups by model, it
-- also reads the calls from the first to the last of these runs.
-- In the columnstore it reads the raw table.
WITH page AS (
    SELECT *
    FROM query_run_summaries
    WHERE (end_time IS NOT NULL OR success IS NOT NULL OR score IS NOT NULL)
      AND (%(since)s::timestamptz IS NULL OR start_time >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR start_time < %(until)s::timestamptz)
      AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
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
    CROSS JOIN LATERAL (  -- one index scan per run
        SELECT
            i.query_id, i.run_id,
            -- include: fragments/run_sums.sql,
            -- include: fragments/cache_hit_rate.sql AS cache_hit_rate,
            sum(original_cost - total_cost) AS cost_savings
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
),
-- Not a subquery per run: Citus supports none here, and in the columnstore each would read its day.
models AS MATERIALIZED (
    SELECT i.query_id, i.run_id, string_agg(DISTINCT i.model, ' + ' ORDER BY i.model) AS names
    FROM llm_interactions AS i
    WHERE %(grouping)s::text = 'model'
      AND (%(query_id)s::text IS NULL OR i.query_id = %(query_id)s::text)
      AND i.time >= (
          SELECT CASE WHEN count(first_call_time) = count(*) THEN min(first_call_time) ELSE '-infinity' END FROM page
      )
      AND i.time <= (
          SELECT CASE WHEN count(last_call_time) = count(*) THEN max(last_call_time) ELSE 'infinity' END FROM page
      )
    GROUP BY i.query_id, i.run_id
)
SELECT
    CASE %(grouping)s::text
        WHEN 'metadata' THEN p.metadata #>> string_to_array(%(key)s::text, '.')
        WHEN 'tag' THEN p.tags ->> %(key)s::text
        WHEN 'label' THEN p.outcome_label
        WHEN 'model' THEN m.names
        ELSE p.query_id
    END AS "group",
    p.success, p.score,
    extract(epoch FROM p.end_time - p.start_time)::double precision * 1000 AS duration_ms,
    coalesce(f.total_interactions, 0) AS interactions,
    coalesce(f.total_prompt_tokens, 0) AS prompt_tokens,
    coalesce(f.total_completion_tokens, 0) AS completion_tokens,
    coalesce(f.total_cached_tokens, 0) AS cached_tokens,
    coalesce(p.reported_prompt_tokens, f.total_prompt_tokens, 0) AS reported_prompt_tokens,
    coalesce(o.unpriced_interactions, 0) AS unpriced_interactions,
    f.total_cost,
    f.total_cost + coalesce(f.cost_savings, 0) AS original_cost
FROM page AS p
LEFT JOIN figures AS f ON f.query_id = p.query_id AND f.run_id = p.run_id
LEFT JOIN models AS m ON m.query_id = p.query_id AND m.run_id = p.run_id
LEFT JOIN token_cache_optimization AS o ON o.query_id = p.query_id AND o.run_id = p.run_id
ORDER BY 1, p.start_time, p.query_id, p.run_id;
