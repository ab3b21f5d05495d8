-- 0005 runs: the two tables of runs, made or completed, and every run of the calls listed.
-- Why:   runs are listed from query_run_summaries, savings from token_cache_optimization.
-- Lock:  ACCESS EXCLUSIVE on both tables, for about 2 s a million calls.
--
-- Rows that are there keep what they say; missing counts of a stored optimization are filled.

CREATE TABLE IF NOT EXISTS query_run_summaries (
    query_id                TEXT             NOT NULL,
    run_id                  TIMESTAMPTZ      NOT NULL,
    start_time              TIMESTAMPTZ      NOT NULL,
    end_time                TIMESTAMPTZ,
    status                  TEXT             NOT NULL DEFAULT 'running',
    metadata                JSONB,
    total_interactions      BIGINT,
    failed_interactions     BIGINT,
    total_prompt_tokens     BIGINT,
    total_completion_tokens BIGINT,
    total_tokens            BIGINT,
    total_cached_tokens     BIGINT,
    total_cost              DOUBLE PRECISION,
    avg_duration_ms         DOUBLE PRECISION,
    p50_duration_ms         DOUBLE PRECISION,
    p95_duration_ms         DOUBLE PRECISION,
    p99_duration_ms         DOUBLE PRECISION,
    PRIMARY KEY (query_id, run_id)
);

ALTER TABLE query_run_summaries
    ADD COLUMN IF NOT EXISTS query_id TEXT,
    ADD COLUMN IF NOT EXISTS run_id TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS start_time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS end_time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS status TEXT,
    ADD COLUMN IF NOT EXISTS metadata JSONB,
    ADD COLUMN IF NOT EXISTS total_interactions BIGINT,
    ADD COLUMN IF NOT EXISTS failed_interactions BIGINT,
    ADD COLUMN IF NOT EXISTS total_prompt_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS total_completion_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS total_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS total_cached_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS total_cost DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS avg_duration_ms DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS p50_duration_ms DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS p95_duration_ms DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS p99_duration_ms DOUBLE PRECISION;

ALTER TABLE query_run_summaries
    ALTER COLUMN end_time DROP NOT NULL,
    ALTER COLUMN metadata DROP NOT NULL,
    ALTER COLUMN total_interactions DROP NOT NULL,
    ALTER COLUMN failed_interactions DROP NOT NULL,
    ALTER COLUMN total_prompt_tokens DROP NOT NULL,
    ALTER COLUMN total_completion_tokens DROP NOT NULL,
    ALTER COLUMN total_tokens DROP NOT NULL,
    ALTER COLUMN total_cached_tokens DROP NOT NULL,
    ALTER COLUMN total_cost DROP NOT NULL,
    ALTER COLUMN avg_duration_ms DROP NOT NULL,
    ALTER COLUMN p50_duration_ms DROP NOT NULL,
    ALTER COLUMN p95_duration_ms DROP NOT NULL,
    ALTER COLUMN p99_duration_ms DROP NOT NULL;

CREATE TABLE IF NOT EXISTS token_cache_optimization (
    query_id                  TEXT             NOT NULL,
    run_id                    TIMESTAMPTZ      NOT NULL,
    time                      TIMESTAMPTZ      NOT NULL,
    total_prompt_tokens       BIGINT           NOT NULL,
    total_cached_tokens       BIGINT           NOT NULL,
    cache_savings_tokens      BIGINT           NOT NULL,
    cache_savings_percentage  DOUBLE PRECISION,
    original_cost             DOUBLE PRECISION,
    cached_cost               DOUBLE PRECISION,
    cost_savings              DOUBLE PRECISION,
    cost_savings_percentage   DOUBLE PRECISION,
    total_interactions        BIGINT           NOT NULL,
    interactions_with_cache   BIGINT           NOT NULL,
    interactions_without_cache  BIGINT         NOT NULL,
    interactions_not_reported BIGINT           NOT NULL,
    unpriced_interactions     BIGINT           NOT NULL,
    cache_evolution           JSONB            NOT NULL,
    PRIMARY KEY (query_id, run_id)
);

ALTER TABLE token_cache_optimization
    ADD COLUMN IF NOT EXISTS query_id TEXT,
    ADD COLUMN IF NOT EXISTS run_id TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS total_prompt_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS total_cached_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS cache_savings_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS cache_savings_percentage DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS original_cost DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS cached_cost DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS cost_savings DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS cost_savings_percentage DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS total_interactions BIGINT,
    ADD COLUMN IF NOT EXISTS interactions_with_cache BIGINT,
    ADD COLUMN IF NOT EXISTS interactions_without_cache BIGINT,
    ADD COLUMN IF NOT EXISTS interactions_not_reported BIGINT,
    ADD COLUMN IF NOT EXISTS unpriced_interactions BIGINT,
    ADD COLUMN IF NOT EXISTS cache_evolution JSONB;

ALTER TABLE token_cache_optimization
    ALTER COLUMN cache_savings_percentage DROP NOT NULL,
    ALTER COLUMN original_cost DROP NOT NULL,
    ALTER COLUMN cached_cost DROP NOT NULL,
    ALTER COLUMN cost_savings DROP NOT NULL,
    ALTER COLUMN cost_savings_percentage DROP NOT NULL;

-- Sums as large and costs as small as they get, names of any length. Where a view is in the way a column stays as it is.
DO $$
DECLARE
    narrow RECORD;
BEGIN
    FOR narrow IN
        SELECT c.relname, a.attname, w.wanted
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
        JOIN pg_type AS t ON t.oid = a.atttypid
        JOIN (
            VALUES
                ('varchar', 'TEXT'), ('bpchar', 'TEXT'), ('uuid', 'TEXT'), ('json', 'JSONB'),
                ('int2', 'BIGINT'), ('int4', 'BIGINT'),
                ('numeric', 'DOUBLE PRECISION'), ('float4', 'DOUBLE PRECISION'), ('int2', 'DOUBLE PRECISION'),
                ('int4', 'DOUBLE PRECISION'), ('int8', 'DOUBLE PRECISION')
        ) AS w (found, wanted) ON w.found = t.typname
        WHERE c.oid IN (to_regclass('query_run_summaries'), to_regclass('token_cache_optimization'))
          AND (
              (w.wanted = 'TEXT' AND a.attname IN ('query_id', 'status'))
              OR (w.wanted = 'JSONB' AND a.attname IN ('metadata', 'cache_evolution'))
              OR (w.wanted = 'BIGINT' AND a.attname IN (
                  'total_interactions', 'failed_interactions', 'total_prompt_tokens', 'total_completion_tokens',
                  'total_tokens', 'total_cached_tokens', 'cache_savings_tokens', 'interactions_with_cache',
                  'interactions_without_cache', 'interactions_not_reported', 'unpriced_interactions'
              ))
              OR (w.wanted = 'DOUBLE PRECISION' AND a.attname IN (
                  'total_cost', 'avg_duration_ms', 'p50_duration_ms', 'p95_duration_ms', 'p99_duration_ms',
                  'cache_savings_percentage', 'original_cost', 'cached_cost', 'cost_savings', 'cost_savings_percentage'
              ))
          )
    LOOP
        BEGIN
            EXECUTE format('ALTER TABLE %I ALTER COLUMN %I TYPE %s', narrow.relname, narrow.attname, narrow.wanted);
        EXCEPTION WHEN feature_not_supported THEN
            RAISE NOTICE 'a view uses %.%: it keeps its type', narrow.relname, narrow.attname;
        END;
    END LOOP;
END
$$;

-- Triggers of theirs are meant for runs that begin and end, not for what is filled in: they are taken off and put back.
CREATE TEMPORARY TABLE rlm_cachetrack_triggers ON COMMIT DROP AS
SELECT
    t.tgrelid::regclass AS standing, t.tgname, pg_get_triggerdef(t.oid) AS made,
    obj_description(t.oid, 'pg_trigger') AS said, t.tgenabled AS enabled
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE t.tgrelid IN (to_regclass('query_run_summaries'), to_regclass('token_cache_optimization'))
  AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND n.nspname NOT LIKE '\_timescaledb%';

DO $$
DECLARE
    theirs RECORD;
BEGIN
    FOR theirs IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', theirs.tgname, theirs.standing);
    END LOOP;
END
$$;

UPDATE query_run_summaries
SET start_time = coalesce(start_time, run_id), status = coalesce(status, 'completed')
WHERE start_time IS NULL OR status IS NULL;

ALTER TABLE query_run_summaries
    ALTER COLUMN start_time SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN status SET DEFAULT 'running';

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

-- One row a run: a key on (query_id, run_id), where there is none. A primary key that is there stays beside it, but where
-- TimescaleDB divides the savings by run_id, or Citus both tables by query_id, one without that column makes way.
DO $$
DECLARE
    timescale CONSTANT BOOLEAN := EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb');
    citus CONSTANT BOOLEAN := NOT timescale AND EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus');
    name TEXT;
    old_key TEXT;
    old_columns TEXT[];
BEGIN
    FOREACH name IN ARRAY ARRAY['query_run_summaries', 'token_cache_optimization'] LOOP
        SELECT
            c.conname,
            ARRAY(
                SELECT a.attname::text FROM pg_attribute AS a
                WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
            )
        INTO old_key, old_columns
        FROM pg_constraint AS c
        WHERE c.conrelid = to_regclass(name) AND c.contype = 'p';
        IF (timescale AND name = 'token_cache_optimization' AND 'run_id' <> ALL (old_columns))
            OR (citus AND 'query_id' <> ALL (old_columns))
        THEN
            EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', name, old_key);
            old_key := NULL;
        END IF;
        IF old_key IS NULL THEN
            EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (query_id, run_id)', name);
        ELSIF NOT EXISTS (
            SELECT 1
            FROM pg_index AS i
            WHERE i.indrelid = to_regclass(name) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
              AND i.indnkeyatts = 2
              AND (
                  SELECT array_agg(a.attname::text ORDER BY a.attname)
                  FROM pg_attribute AS a
                  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
              ) = ARRAY['query_id', 'run_id']
        ) THEN
            EXECUTE format('CREATE UNIQUE INDEX %I ON %I (query_id, run_id)', 'idx_' || name || '_key', name);
        END IF;
    END LOOP;
END
$$;

ALTER TABLE query_run_summaries ALTER COLUMN query_id SET NOT NULL, ALTER COLUMN run_id SET NOT NULL;
ALTER TABLE token_cache_optimization ALTER COLUMN query_id SET NOT NULL, ALTER COLUMN run_id SET NOT NULL;

CREATE INDEX IF NOT EXISTS idx_cache_opt_query_id ON token_cache_optimization (query_id, time DESC);
CREATE INDEX IF NOT EXISTS idx_cache_opt_savings ON token_cache_optimization (cost_savings DESC, time DESC);
CREATE INDEX IF NOT EXISTS idx_query_run_summaries_start ON query_run_summaries (start_time DESC, query_id);

INSERT INTO query_run_summaries (query_id, run_id, start_time, end_time, status)
SELECT query_id, run_id, least(run_id, min(time)), max(coalesce(end_time, time)), 'completed'
FROM llm_interactions
GROUP BY query_id, run_id
ON CONFLICT (query_id, run_id) DO NOTHING;

DO $$
DECLARE
    theirs RECORD;
BEGIN
    FOR theirs IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE theirs.made;
        EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', theirs.tgname, theirs.standing, theirs.said);
        IF theirs.enabled <> 'O' THEN
            EXECUTE format(
                'ALTER TABLE %s ENABLE %s TRIGGER %I', theirs.standing,
                CASE theirs.enabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, theirs.tgname
            );
        END IF;
    END LOOP;
END
$$;
