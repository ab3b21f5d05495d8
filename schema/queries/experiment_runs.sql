-- experiment_runs: Return the runs of a time range that ended or were judged, with their group, outcome, cost and tokens.
-- Parameters: those of fragments/run_page_filters.sql. grouping TEXT: metadata, tag, query, label or model; key TEXT:
--             the path of a metadata key, with dots, or the name of a tag; NULL for the other groupings.
-- Result:     one row per run: "group" TEXT, NULL for a run without the key (model: the names of all its models);
--             query_id, run_id; success BOOLEAN, score DOUBLE PRECISION: NULL if not judged; duration_ms;
--             reported_prompt_tokens, unpriced_interactions BIGINT, of those stored when the run ended; figures: see
--             fragments/run_figure_columns.sql.
-- If it groups by model, it reads the calls from the first to the last of these runs.
-- In the columnstore it reads the raw table.
WITH page AS (
    SELECT *
    FROM query_run_summaries AS s
    WHERE (s.end_time IS NOT NULL OR s.success IS NOT NULL OR s.score IS NOT NULL)
      AND -- include: fragments/run_page_filters.sql
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
    p.reported_prompt_tokens,
    coalesce(u.unpriced_interactions, 0) AS unpriced_interactions,
    p.query_id, p.run_id,
    -- include: fragments/run_figure_columns.sql
-- include: fragments/run_page_savings.sql
LEFT JOIN models AS m ON m.query_id = p.query_id AND m.run_id = p.run_id
LEFT JOIN token_cache_optimization AS u ON u.query_id = p.query_id AND u.run_id = p.run_id
ORDER BY 1, p.start_time, p.query_id, p.run_id;
