-- 0003 rows: fill in what every call and run must have, and list the runs of the existing calls.
-- Why:   calls without a query or run get 'adhoc' and their own time. Totals and the original cost are stored with the
--        row, not calculated by each query. Runs are listed from query_run_summaries.
-- Lock:  SHARE ROW EXCLUSIVE on llm_interactions (writers wait, readers do not): 5-15 s per million changed rows, and
--        2 s per million calls to list the runs. At the end ACCESS EXCLUSIVE on the tables, for a moment.
--
-- Existing values are kept. original_cost is the cost of the call with nothing cached: with 0 cached tokens, its
-- total_cost; else all tokens at the prompt and the completion price of the row. price_source 'record' marks prices and
-- costs that were given with the row, so that re-pricing keeps them.

LOCK TABLE llm_interactions IN SHARE ROW EXCLUSIVE MODE;

-- The user's triggers are removed, so that they do not fire for the changes below, and created again in this
-- transaction. (TimescaleDB cannot disable a trigger of a hypertable.)
CREATE TEMPORARY TABLE rlm_cachetrack_triggers ON COMMIT DROP AS
SELECT
    t.tgrelid::regclass AS "table", t.tgname AS name, pg_get_triggerdef(t.oid) AS definition,
    obj_description(t.oid, 'pg_trigger') AS comment, t.tgenabled AS enabled
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE t.tgrelid IN (
        to_regclass('llm_interactions'), to_regclass('query_run_summaries'), to_regclass('token_cache_optimization')
    )
  AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND n.nspname NOT LIKE '\_timescaledb%';

DO $$
DECLARE
    trigger RECORD;
BEGIN
    FOR trigger IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', trigger.name, trigger."table");
    END LOOP;
END
$$;

UPDATE llm_interactions
SET time = coalesce(time, start_time, end_time, now()),
    query_id = coalesce(query_id, 'adhoc'),
    run_id = coalesce(run_id, time, start_time, end_time, now()),
    interaction_id = coalesce(interaction_id, gen_random_uuid()),
    model = coalesce(model, 'unknown'),
    success = coalesce(success, error_type IS NULL AND error_message IS NULL),
    total_tokens = coalesce(total_tokens, prompt_tokens + completion_tokens),
    uncached_prompt_tokens = coalesce(uncached_prompt_tokens, prompt_tokens - cached_tokens),
    original_cost = coalesce(
        original_cost,
        CASE WHEN cached_tokens = 0 THEN total_cost END,
        CASE WHEN completion_tokens IS NULL OR completion_tokens = 0 THEN prompt_tokens * prompt_token_price / 1000 END,
        (prompt_tokens * prompt_token_price + completion_tokens * completion_token_price) / 1000
    ),
    price_source = coalesce(
        price_source, CASE WHEN num_nonnulls(prompt_token_price, completion_token_price, total_cost) > 0 THEN 'record' END
    )
WHERE time IS NULL
   OR query_id IS NULL
   OR run_id IS NULL
   OR interaction_id IS NULL
   OR model IS NULL
   OR success IS NULL
   OR (total_tokens IS NULL AND prompt_tokens + completion_tokens IS NOT NULL)
   OR (uncached_prompt_tokens IS NULL AND prompt_tokens - cached_tokens IS NOT NULL)
   OR (original_cost IS NULL AND num_nonnulls(total_cost, prompt_token_price) > 0)
   OR (price_source IS NULL AND num_nonnulls(prompt_token_price, completion_token_price, total_cost) > 0);

UPDATE query_run_summaries
SET start_time = coalesce(start_time, run_id), status = coalesce(status, 'completed')
WHERE start_time IS NULL OR status IS NULL;

WITH calls AS MATERIALIZED (
    SELECT query_id, run_id, min(time) AS first, max(time) AS last, max(coalesce(end_time, time)) AS end_time
    FROM llm_interactions
    GROUP BY query_id, run_id
), listed AS (
    UPDATE query_run_summaries AS s
    SET first_call_time = c.first, last_call_time = c.last
    FROM calls AS c
    WHERE c.query_id = s.query_id AND c.run_id = s.run_id
)
INSERT INTO query_run_summaries (query_id, run_id, start_time, end_time, status, first_call_time, last_call_time)
SELECT c.query_id, c.run_id, least(c.run_id, c.first), c.end_time, 'completed', c.first, c.last
FROM calls AS c
WHERE NOT EXISTS (SELECT 1 FROM query_run_summaries AS s WHERE s.query_id = c.query_id AND s.run_id = c.run_id);

DO $$
BEGIN
    IF to_regclass('token_cache_optimization') IS NULL THEN
        RETURN;
    END IF;
    UPDATE token_cache_optimization
    SET time = coalesce(time, run_id),
        total_prompt_tokens = coalesce(total_prompt_tokens, 0),
        total_cached_tokens = coalesce(total_cached_tokens, 0),
        cache_savings_tokens = coalesce(cache_savings_tokens, total_cached_tokens, 0),
        total_interactions = coalesce(total_interactions, 0),
        interactions_with_cache = coalesce(interactions_with_cache, 0),
        interactions_without_cache = coalesce(interactions_without_cache, 0),
        interactions_not_reported = coalesce(
            interactions_not_reported,
            greatest(0, total_interactions - interactions_with_cache - interactions_without_cache),
            0
        ),
        unpriced_interactions = coalesce(unpriced_interactions, 0),
        cache_evolution = coalesce(cache_evolution, '[]')
    WHERE time IS NULL
       OR total_prompt_tokens IS NULL
       OR total_cached_tokens IS NULL
       OR cache_savings_tokens IS NULL
       OR total_interactions IS NULL
       OR interactions_with_cache IS NULL
       OR interactions_without_cache IS NULL
       OR interactions_not_reported IS NULL
       OR unpriced_interactions IS NULL
       OR cache_evolution IS NULL;
END
$$;

DO $$
DECLARE
    trigger RECORD;
BEGIN
    FOR trigger IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE trigger.definition;
        EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', trigger.name, trigger."table", trigger.comment);
        IF trigger.enabled <> 'O' THEN
            EXECUTE format(
                'ALTER TABLE %s ENABLE %s TRIGGER %I', trigger."table",
                CASE trigger.enabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, trigger.name
            );
        END IF;
    END LOOP;
END
$$;

ALTER TABLE llm_interactions
    ALTER COLUMN time SET NOT NULL,
    ALTER COLUMN interaction_id SET NOT NULL,
    ALTER COLUMN query_id SET NOT NULL,
    ALTER COLUMN run_id SET NOT NULL,
    ALTER COLUMN model SET NOT NULL,
    ALTER COLUMN success SET NOT NULL;

ALTER TABLE query_run_summaries
    ALTER COLUMN query_id SET NOT NULL,
    ALTER COLUMN run_id SET NOT NULL,
    ALTER COLUMN start_time SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN status SET DEFAULT 'running';

ALTER TABLE IF EXISTS token_cache_optimization
    ALTER COLUMN query_id SET NOT NULL,
    ALTER COLUMN run_id SET NOT NULL;
