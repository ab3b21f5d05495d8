-- For people who run their own migrations: what `rlm-cachetrack migrate` does, as one file of plain SQL.
--
-- A database of a coordinator with a table llm_interactions from before, with Citus 12 or newer.
-- Run it as the owner of the tables, such as: psql -v ON_ERROR_STOP=1 -f adopt_citus.sql DATABASE_URL
-- Each step is a transaction that also says that it ran; the library then finds nothing left to do.
-- `rlm-cachetrack migrate --dry-run` prints the same for a database as it is, and what is to be known before.
-- Made from the other folders of schema/; do not edit.

-- ==== adopt/0002_columns
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0002 columns: every column of this library, beside those that are there.
-- Why:   an existing table of calls is taken over in place; its own columns, and the views on it, stay.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions: for a moment where only columns are added, and for a rewrite of the table
--        (some seconds a million rows) where prices or costs are NUMERIC, or durations INTEGER.
--
-- Columns that are new are NULL in the rows that are there: NULL is "not reported". Zeros that are there stay. Only
-- rows written by hand from now on get the default 0.

ALTER TABLE llm_interactions
    ADD COLUMN IF NOT EXISTS time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS interaction_id UUID,
    ADD COLUMN IF NOT EXISTS query_id TEXT,
    ADD COLUMN IF NOT EXISTS run_id TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS model TEXT,
    ADD COLUMN IF NOT EXISTS model_type TEXT,
    ADD COLUMN IF NOT EXISTS model_index INTEGER,
    ADD COLUMN IF NOT EXISTS prompt_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS completion_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS total_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS cached_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS uncached_prompt_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS cache_write_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS reasoning_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS prompt_token_price DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS cached_token_price DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS cache_write_token_price DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS completion_token_price DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS total_cost DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS original_cost DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS duration_ms DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS time_to_first_token_ms DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS start_time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS end_time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS context_messages INTEGER,
    ADD COLUMN IF NOT EXISTS context_tokens INTEGER,
    ADD COLUMN IF NOT EXISTS response_length INTEGER,
    ADD COLUMN IF NOT EXISTS iteration INTEGER,
    ADD COLUMN IF NOT EXISTS recursion_id TEXT,
    ADD COLUMN IF NOT EXISTS parent_recursion_id TEXT,
    ADD COLUMN IF NOT EXISTS current_depth INTEGER,
    ADD COLUMN IF NOT EXISTS max_depth INTEGER,
    ADD COLUMN IF NOT EXISTS has_tool_calls BOOLEAN,
    ADD COLUMN IF NOT EXISTS tool_call_count INTEGER,
    ADD COLUMN IF NOT EXISTS success BOOLEAN,
    ADD COLUMN IF NOT EXISTS error_message TEXT,
    ADD COLUMN IF NOT EXISTS error_type TEXT,
    ADD COLUMN IF NOT EXISTS metadata JSONB,
    ADD COLUMN IF NOT EXISTS provider TEXT,
    ADD COLUMN IF NOT EXISTS api TEXT,
    ADD COLUMN IF NOT EXISTS service_tier TEXT,
    ADD COLUMN IF NOT EXISTS finish_reason TEXT,
    ADD COLUMN IF NOT EXISTS request_id TEXT,
    ADD COLUMN IF NOT EXISTS price_source TEXT,
    ADD COLUMN IF NOT EXISTS usage JSONB,
    ADD COLUMN IF NOT EXISTS usage_anomaly TEXT;

-- A call that failed has no duration, and much else may be unknown.
ALTER TABLE llm_interactions
    ALTER COLUMN model_type DROP NOT NULL,
    ALTER COLUMN model_index DROP NOT NULL,
    ALTER COLUMN prompt_tokens DROP NOT NULL,
    ALTER COLUMN completion_tokens DROP NOT NULL,
    ALTER COLUMN total_tokens DROP NOT NULL,
    ALTER COLUMN cached_tokens DROP NOT NULL,
    ALTER COLUMN uncached_prompt_tokens DROP NOT NULL,
    ALTER COLUMN cache_write_tokens DROP NOT NULL,
    ALTER COLUMN reasoning_tokens DROP NOT NULL,
    ALTER COLUMN prompt_token_price DROP NOT NULL,
    ALTER COLUMN cached_token_price DROP NOT NULL,
    ALTER COLUMN cache_write_token_price DROP NOT NULL,
    ALTER COLUMN completion_token_price DROP NOT NULL,
    ALTER COLUMN total_cost DROP NOT NULL,
    ALTER COLUMN original_cost DROP NOT NULL,
    ALTER COLUMN duration_ms DROP NOT NULL,
    ALTER COLUMN time_to_first_token_ms DROP NOT NULL,
    ALTER COLUMN start_time DROP NOT NULL,
    ALTER COLUMN end_time DROP NOT NULL,
    ALTER COLUMN context_messages DROP NOT NULL,
    ALTER COLUMN context_tokens DROP NOT NULL,
    ALTER COLUMN response_length DROP NOT NULL,
    ALTER COLUMN iteration DROP NOT NULL,
    ALTER COLUMN recursion_id DROP NOT NULL,
    ALTER COLUMN parent_recursion_id DROP NOT NULL,
    ALTER COLUMN current_depth DROP NOT NULL,
    ALTER COLUMN max_depth DROP NOT NULL,
    ALTER COLUMN has_tool_calls DROP NOT NULL,
    ALTER COLUMN tool_call_count DROP NOT NULL,
    ALTER COLUMN error_message DROP NOT NULL,
    ALTER COLUMN error_type DROP NOT NULL,
    ALTER COLUMN metadata DROP NOT NULL,
    ALTER COLUMN provider DROP NOT NULL,
    ALTER COLUMN api DROP NOT NULL,
    ALTER COLUMN service_tier DROP NOT NULL,
    ALTER COLUMN finish_reason DROP NOT NULL,
    ALTER COLUMN request_id DROP NOT NULL,
    ALTER COLUMN price_source DROP NOT NULL,
    ALTER COLUMN usage DROP NOT NULL,
    ALTER COLUMN usage_anomaly DROP NOT NULL;

ALTER TABLE llm_interactions
    ALTER COLUMN cached_tokens SET DEFAULT 0,
    ALTER COLUMN interaction_id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN success SET DEFAULT TRUE;

-- Text of any length, costs of any smallness. Where a view is in the way the column stays as it is.
DO $$
DECLARE
    narrow RECORD;
BEGIN
    FOR narrow IN
        SELECT a.attname, w.wanted
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        JOIN (
            VALUES
                ('varchar', 'TEXT'), ('bpchar', 'TEXT'), ('uuid', 'TEXT'), ('numeric', 'DOUBLE PRECISION'),
                ('float4', 'DOUBLE PRECISION'), ('int2', 'INTEGER'), ('json', 'JSONB'),
                ('int4', 'DOUBLE PRECISION'), ('int8', 'DOUBLE PRECISION')
        ) AS w (found, wanted) ON w.found = t.typname
        WHERE a.attrelid = to_regclass('llm_interactions') AND NOT a.attisdropped
          AND (
              (w.wanted = 'TEXT' AND a.attname IN (
                  'query_id', 'model', 'model_type', 'recursion_id', 'parent_recursion_id',
                  'error_message', 'error_type', 'provider', 'api', 'service_tier', 'finish_reason',
                  'request_id', 'price_source', 'usage_anomaly'
              ))
              OR (w.wanted = 'DOUBLE PRECISION' AND a.attname IN (
                  'prompt_token_price', 'cached_token_price', 'cache_write_token_price',
                  'completion_token_price', 'total_cost', 'original_cost', 'duration_ms',
                  'time_to_first_token_ms'
              ))
              OR (w.wanted = 'INTEGER' AND a.attname IN (
                  'prompt_tokens', 'completion_tokens', 'total_tokens', 'cached_tokens', 'uncached_prompt_tokens',
                  'cache_write_tokens', 'reasoning_tokens', 'context_messages', 'context_tokens', 'response_length',
                  'iteration', 'model_index', 'current_depth', 'max_depth', 'tool_call_count'
              ))
              OR (w.wanted = 'JSONB' AND a.attname IN ('metadata', 'usage'))
          )
    LOOP
        BEGIN
            EXECUTE format('ALTER TABLE llm_interactions ALTER COLUMN %I TYPE %s', narrow.attname, narrow.wanted);
        EXCEPTION WHEN feature_not_supported THEN
            RAISE NOTICE 'a view uses llm_interactions.%: it keeps its type', narrow.attname;
        END;
    END LOOP;
END
$$;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('adopt', 2, 'columns', 'd0d392a2dbbdfb2bf40d2375d1cbd4c5dd29e2838ea556f1cc26b63450e9cb1b');
COMMIT;

-- ==== adopt/0003_fill
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0003 fill: what every call must have, and what follows from what is there.
-- Why:   calls without a query or run get 'adhoc' and their own time; totals and what a call would have cost uncached are
--        read from the rows, not computed each time.
-- Lock:  SHARE ROW EXCLUSIVE on llm_interactions: writers wait, readers do not; 5-15 s a million rows that change. At the
--        end ACCESS EXCLUSIVE, for a moment.
--
-- original_cost is what the call would have cost with nothing cached: with 0 cached tokens it is what it did cost.
-- Triggers of theirs are meant for new calls: they are taken off and put back, all in this transaction.

LOCK TABLE llm_interactions IN SHARE ROW EXCLUSIVE MODE;

CREATE TEMPORARY TABLE rlm_cachetrack_triggers ON COMMIT DROP AS
SELECT
    t.tgname, pg_get_triggerdef(t.oid) AS made, obj_description(t.oid, 'pg_trigger') AS said, t.tgenabled AS enabled
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE t.tgrelid = to_regclass('llm_interactions') AND NOT t.tgisinternal AND t.tgenabled <> 'D'
  AND n.nspname NOT LIKE '\_timescaledb%';

DO $$
DECLARE
    theirs RECORD;
BEGIN
    FOR theirs IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE format('DROP TRIGGER %I ON llm_interactions', theirs.tgname);
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
    original_cost = coalesce(original_cost, CASE WHEN cached_tokens = 0 THEN total_cost END)
WHERE time IS NULL
   OR query_id IS NULL
   OR run_id IS NULL
   OR interaction_id IS NULL
   OR model IS NULL
   OR success IS NULL
   OR (total_tokens IS NULL AND prompt_tokens + completion_tokens IS NOT NULL)
   OR (uncached_prompt_tokens IS NULL AND prompt_tokens - cached_tokens IS NOT NULL)
   OR (original_cost IS NULL AND cached_tokens = 0 AND total_cost IS NOT NULL);

DO $$
DECLARE
    theirs RECORD;
BEGIN
    FOR theirs IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE theirs.made;
        EXECUTE format('COMMENT ON TRIGGER %I ON llm_interactions IS %L', theirs.tgname, theirs.said);
        IF theirs.enabled <> 'O' THEN
            EXECUTE format(
                'ALTER TABLE llm_interactions ENABLE %s TRIGGER %I',
                CASE theirs.enabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, theirs.tgname
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

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('adopt', 3, 'fill', '8908c4e93da479b69cbc5d03b90d18a37ad9e01e6a003a9686451d5f3f54f9a7');
COMMIT;

-- ==== adopt/0004_key
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0004 key: the key by which a call is stored once, and the indexes.
-- Why:   one key that serves the read of a run, holds on a hypertable over time, and on Citus by query_id.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions while the indexes are built: 5-15 s a million rows.
--
-- A primary key that is there stays, with a unique index beside it; but TimescaleDB refuses one without the time, and
-- Citus one without the query_id: there it makes way.

DO $$
DECLARE
    needed TEXT := CASE
        WHEN EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb') THEN 'time'
        WHEN EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') THEN 'query_id'
    END;
    old_key TEXT;
    old_columns SMALLINT[];
BEGIN
    SELECT c.conname, c.conkey INTO old_key, old_columns
    FROM pg_constraint AS c
    WHERE c.conrelid = to_regclass('llm_interactions') AND c.contype = 'p';
    IF old_key IS NOT NULL
        AND needed IS NOT NULL
        AND NOT EXISTS (
            SELECT 1 FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass('llm_interactions') AND a.attname = needed AND a.attnum = ANY (old_columns)
        )
    THEN
        EXECUTE format('ALTER TABLE llm_interactions DROP CONSTRAINT %I', old_key);
        old_key := NULL;
    END IF;
    IF old_key IS NULL THEN
        ALTER TABLE llm_interactions ADD PRIMARY KEY (query_id, run_id, time, interaction_id);
    ELSE
        CREATE UNIQUE INDEX IF NOT EXISTS idx_llm_key
            ON llm_interactions (query_id, run_id, time, interaction_id);
    END IF;
END
$$;

CREATE INDEX IF NOT EXISTS idx_llm_cached_tokens ON llm_interactions (cached_tokens DESC, time DESC);
CREATE INDEX IF NOT EXISTS idx_llm_total_cost ON llm_interactions (total_cost DESC, time DESC);
CREATE INDEX IF NOT EXISTS idx_llm_time ON llm_interactions (time DESC);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('adopt', 4, 'key', 'bc1d1d8eb586da559fa351dc2027f6230d57894b387e8c4fdfd3647b5b4e208b');
COMMIT;

-- ==== adopt/0005_runs
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

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

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('adopt', 5, 'runs', '1a9d1cdbf267d9dc598fdffdf05c58c167bdf072a4789e3a1ec1bcb2824a5c6d');
-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 1, 'initial', '869dd57412d13f338ddc242a439ff74a94f12f747e87e7d84b64c083f84ba0d6');
COMMIT;

-- ==== citus/0001_distribute
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0001 distribute: the tables that grow are spread over the nodes by query_id, with all that belongs to a run together.
-- Why:   a batch's rows go to the nodes that hold their shards, a run is read from one shard, and all else is summed up
--        where it lies. What was applied is known on every node, so that a program may connect to any of them.
-- Lock:  ACCESS EXCLUSIVE on the tables while rows that are there move into shards (about 15 s a million calls).
-- Needs: Citus 12 or newer.
--
-- How many shards there are is citus.shard_count (32 by default) as this runs; alter_distributed_table changes it later.

SET LOCAL citus.multi_shard_modify_mode = 'sequential';

SELECT create_distributed_table('llm_interactions', 'query_id');
SELECT create_distributed_table('token_cache_optimization', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('query_run_summaries', 'query_id', colocate_with => 'llm_interactions');
SELECT create_reference_table('rlm_cachetrack_migrations');

-- What was there before stays behind, unseen, in the coordinator's own tables.
SELECT truncate_local_data_after_distributing_table('llm_interactions');
SELECT truncate_local_data_after_distributing_table('token_cache_optimization');
SELECT truncate_local_data_after_distributing_table('query_run_summaries');
SELECT truncate_local_data_after_distributing_table('rlm_cachetrack_migrations');

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 1, 'distribute', 'a84311a684e63d8089a77ccd9e0c81706987f7bc09984ff8c4a99fdb040929ca');
COMMIT;

-- ==== core/0002_cache_usage_hourly
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0002 cache_usage_hourly: sums by hour, provider, model and service tier.
-- Why:   one name for "how much, over time", whatever the engine. On TimescaleDB, timescale/0002 puts a continuous
--        aggregate of the same name and columns in its place.
-- Lock:  none on existing data.
--
-- *_tokens: sums of tokens. reported_prompt_tokens: prompt tokens of the calls that reported their cache use (the
-- denominator of a hit rate). total_cost, original_cost: USD over the priced calls. compared_cost: total_cost of the
-- calls whose original_cost is known too (original_cost - compared_cost are the savings). duration_ms: sum.

CREATE VIEW cache_usage_hourly AS
SELECT
    date_trunc('hour', time, 'UTC') AS bucket,
    provider,
    model,
    service_tier,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
    count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
    count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
    count(*) FILTER (WHERE NOT success) AS failed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    sum(prompt_tokens::bigint) AS prompt_tokens,
    sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_prompt_tokens,
    sum(completion_tokens::bigint) AS completion_tokens,
    sum(total_tokens::bigint) AS total_tokens,
    sum(cached_tokens::bigint) AS cached_tokens,
    sum(uncached_prompt_tokens::bigint) AS uncached_prompt_tokens,
    sum(cache_write_tokens::bigint) AS cache_write_tokens,
    sum(reasoning_tokens::bigint) AS reasoning_tokens,
    sum(total_cost) AS total_cost,
    sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
    count(duration_ms) AS timed_interactions,
    sum(duration_ms) AS duration_ms,
    count(time_to_first_token_ms) AS streamed_interactions,
    sum(time_to_first_token_ms) AS time_to_first_token_ms
FROM llm_interactions
GROUP BY 1, 2, 3, 4;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 2, 'cache_usage_hourly', '2815043e51f09ba77a099a0e044f86a1eac7b66ce381a2d122b76bdcc809bc7d');
COMMIT;

-- ==== core/0003_bounds
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0003 bounds: when the calls of a run began and ended, beside the run; and three more sums by hour.
-- Why:   a read of one run then looks into the chunks of its days only, however many years are stored. The sums let the
--        effectiveness by model be read from cache_usage_hourly alone.
-- Lock:  ACCESS EXCLUSIVE on query_run_summaries and cache_usage_hourly while the bounds are filled from the calls (one
--        pass over llm_interactions, 1-3 s a million rows); reads and writes of llm_interactions go on.
--
-- first_call_time, last_call_time: of the calls that the library stored; NULL: not known, every chunk is looked into.
-- Who adds calls to a run around the library widens them, or sets them to NULL.
-- priced_interactions: the calls that have a cost, the denominator of an average cost. rated_cached_tokens: cached
-- tokens of the calls that also report their prompt tokens, the numerator of a hit rate; its denominator is
-- reported_prompt_tokens. reported_uncached_tokens: uncached tokens of the calls that reported their cache use.

ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS first_call_time TIMESTAMPTZ;
ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS last_call_time TIMESTAMPTZ;

UPDATE query_run_summaries AS s
SET first_call_time = c.first_call_time, last_call_time = c.last_call_time
FROM (
    SELECT query_id, run_id, min(time) AS first_call_time, max(time) AS last_call_time
    FROM llm_interactions
    GROUP BY query_id, run_id
) AS c
WHERE c.query_id = s.query_id AND c.run_id = s.run_id;

-- A continuous aggregate is made anew with its columns (timescale/0003); a view keeps what depends on it.
DO $$
BEGIN
    IF to_regclass('_timescaledb_catalog.continuous_agg') IS NOT NULL THEN
        EXECUTE $sql$
            DO $inner$
            BEGIN
                IF EXISTS (
                    SELECT 1
                    FROM _timescaledb_catalog.continuous_agg AS a
                    JOIN pg_class AS c ON c.relname = a.user_view_name
                    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
                    WHERE c.oid = to_regclass('cache_usage_hourly')
                ) THEN
                    DROP MATERIALIZED VIEW cache_usage_hourly;
                END IF;
            END
            $inner$
        $sql$;
    END IF;
END
$$;

CREATE OR REPLACE VIEW cache_usage_hourly AS
SELECT
    date_trunc('hour', time, 'UTC') AS bucket,
    provider,
    model,
    service_tier,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
    count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
    count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
    count(*) FILTER (WHERE NOT success) AS failed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    sum(prompt_tokens::bigint) AS prompt_tokens,
    sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_prompt_tokens,
    sum(completion_tokens::bigint) AS completion_tokens,
    sum(total_tokens::bigint) AS total_tokens,
    sum(cached_tokens::bigint) AS cached_tokens,
    sum(uncached_prompt_tokens::bigint) AS uncached_prompt_tokens,
    sum(cache_write_tokens::bigint) AS cache_write_tokens,
    sum(reasoning_tokens::bigint) AS reasoning_tokens,
    sum(total_cost) AS total_cost,
    sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
    count(duration_ms) AS timed_interactions,
    sum(duration_ms) AS duration_ms,
    count(time_to_first_token_ms) AS streamed_interactions,
    sum(time_to_first_token_ms) AS time_to_first_token_ms,
    count(total_cost) AS priced_interactions,
    sum(cached_tokens::bigint) FILTER (WHERE prompt_tokens IS NOT NULL) AS rated_cached_tokens,
    sum(uncached_prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_uncached_tokens
FROM llm_interactions
GROUP BY 1, 2, 3, 4;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 3, 'bounds', '3fdc22d59b8729c15ba596efe091f35c6760db1e0b5a1370ea4a6888828c52a5');
COMMIT;

-- ==== core/0005_price_changes
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0005 price_changes: what re-pricings changed, so that each can be continued and undone; calls without a price.
-- Why:   prices are corrected after the fact, and a correction may be wrong itself.
-- Lock:  SHARE on llm_interactions while the index is made: writers wait, readers do not.

-- One row a re-pricing. status: running (calls are being priced), summing (runs are being summed up again), done,
-- undoing, undone. rates: the prices it applies, by model, provider, tier, time and size of the prompt, so that it is
-- continued with the prices it was begun with. cursor_*: the last call it looked at.
CREATE TABLE price_changes (
    change_id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at           TIMESTAMPTZ      NOT NULL DEFAULT now(),
    finished_at          TIMESTAMPTZ,
    status               TEXT             NOT NULL DEFAULT 'running',
    pricing              TEXT             NOT NULL,
    since                TIMESTAMPTZ,
    until                TIMESTAMPTZ,
    model                TEXT,
    query_id             TEXT,
    rates                JSONB            NOT NULL,
    total_interactions   BIGINT           NOT NULL,
    looked_at            BIGINT           NOT NULL DEFAULT 0,
    changed_interactions BIGINT           NOT NULL DEFAULT 0,
    batches              INTEGER          NOT NULL DEFAULT 0,
    cost_before          DOUBLE PRECISION,
    cost_after           DOUBLE PRECISION,
    first_time           TIMESTAMPTZ,
    last_time            TIMESTAMPTZ,
    cursor_time          TIMESTAMPTZ,
    cursor_id            UUID
);

-- What the changed calls had before.
CREATE TABLE price_change_rows (
    change_id               BIGINT      NOT NULL,
    batch                   INTEGER     NOT NULL,
    query_id                TEXT        NOT NULL,
    run_id                  TIMESTAMPTZ NOT NULL,
    time                    TIMESTAMPTZ NOT NULL,
    interaction_id          UUID        NOT NULL,
    prompt_token_price      DOUBLE PRECISION,
    cached_token_price      DOUBLE PRECISION,
    cache_write_token_price DOUBLE PRECISION,
    completion_token_price  DOUBLE PRECISION,
    total_cost              DOUBLE PRECISION,
    original_cost           DOUBLE PRECISION,
    price_source            TEXT
);

CREATE INDEX idx_price_change_rows ON price_change_rows (change_id, batch);

-- What their runs had before; the counts tell whether calls came since.
CREATE TABLE price_change_runs (
    change_id               BIGINT      NOT NULL,
    query_id                TEXT        NOT NULL,
    run_id                  TIMESTAMPTZ NOT NULL,
    summed                  BOOLEAN     NOT NULL DEFAULT FALSE,
    optimized_interactions  BIGINT,
    original_cost           DOUBLE PRECISION,
    cached_cost             DOUBLE PRECISION,
    cost_savings            DOUBLE PRECISION,
    cost_savings_percentage DOUBLE PRECISION,
    unpriced_interactions   BIGINT,
    total_interactions      BIGINT,
    total_cost              DOUBLE PRECISION,
    PRIMARY KEY (change_id, query_id, run_id)
);

-- For doctor, which names the models of calls without a price.
CREATE INDEX idx_llm_unpriced ON llm_interactions (model, time DESC)
    WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 5, 'price_changes', '504c26d056522cfa48d2a778a184474b0deb6ba2c9c1c6cfce7807f03fe0636b');
COMMIT;

-- ==== citus/0005_price_changes
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0005 price_changes: what re-pricings changed lies beside the calls and runs that it is about; the log is on every node.
-- Why:   a batch is then changed, and undone, where its calls are.
-- Lock:  ACCESS EXCLUSIVE on the three tables while rows that are there move.
-- Needs: Citus 12 or newer.

SET LOCAL citus.multi_shard_modify_mode = 'sequential';

-- Its rows are updated by no key of theirs; without one, shards cannot move while the program writes.
ALTER TABLE price_change_rows REPLICA IDENTITY FULL;

SELECT create_reference_table('price_changes');
SELECT create_distributed_table('price_change_rows', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('price_change_runs', 'query_id', colocate_with => 'llm_interactions');

SELECT truncate_local_data_after_distributing_table('price_changes');
SELECT truncate_local_data_after_distributing_table('price_change_rows');
SELECT truncate_local_data_after_distributing_table('price_change_runs');

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 5, 'price_changes', '282fe6419918a50f1aa159299ba5900704c048898b8daaa4a092ebc0ebdc0236');
COMMIT;

-- ==== core/0006_budgets
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0006 budgets: what may be spent, so that `budget check` can fail a build before the invoice does.
-- Why:   a budget belongs to the data it is about, not to one machine.
-- Lock:  none on existing data.
--
-- period: day, week (from Monday) or month, in UTC. model: NULL for all models.

CREATE TABLE budgets (
    name       TEXT             PRIMARY KEY,
    amount_usd DOUBLE PRECISION NOT NULL CHECK (amount_usd > 0),
    period     TEXT             NOT NULL CHECK (period IN ('day', 'week', 'month')),
    model      TEXT,
    changed_at TIMESTAMPTZ      NOT NULL DEFAULT now()
);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 6, 'budgets', 'b8cd89a90e65e8bc6b12b43d81fef3eaa2ef5d94c48686f2820d039d30f2adb0');
COMMIT;

-- ==== citus/0006_budgets
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0006 budgets: on every node.
-- Why:   they are few, and asked for wherever a program connects.
-- Lock:  ACCESS EXCLUSIVE on budgets, for a moment.
-- Needs: Citus 12 or newer.

SELECT create_reference_table('budgets');

SELECT truncate_local_data_after_distributing_table('budgets');

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 6, 'budgets', '03b5ff358d65a97861c9a9b4ba07e8d42799ef4c85fb3c0deff9b1367856b9b0');
COMMIT;

-- ==== core/0007_fingerprint
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0007 fingerprint: what the prompt of a call was, without its content.
-- Why:   tells from history why tokens were not read from the cache: which part of the prompt differed from before.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions, for a moment; the rows that are there have none and are not rewritten.
--
-- A keyed hash and the size of each segment of the prompt, as a difference to an earlier call of the run; NULL where there
-- is none. Read by rlm_cachetrack only; nothing of the text can be had back without the secret, and with it only guesses
-- can be tested.

ALTER TABLE llm_interactions ADD COLUMN IF NOT EXISTS fingerprint BYTEA;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 7, 'fingerprint', 'eceda36002490a11c9802e66d68cb132bffaa777fe4878d7eb8122e758e5ff4c');
COMMIT;

-- ==== core/0008_run_rates
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0008 run_rates: what the hit rate of an ended run is made of, beside its totals.
-- Why:   the list of runs then needs no call of a run that has ended, however old it is.
-- Lock:  ACCESS EXCLUSIVE on query_run_summaries, for a moment; rows that are there are not rewritten.
--
-- reported_prompt_tokens: prompt tokens of the calls that reported their cache use; rated_cached_tokens: cached tokens of
-- the calls that report their prompt tokens, too. Both are set with the totals of a run that has ended. NULL: the totals,
-- if there are any, are somebody else's, or of an older release, and the calls are counted instead.
-- Who adds calls to an ended run around the library sets reported_prompt_tokens to NULL.

ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS reported_prompt_tokens BIGINT;
ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS rated_cached_tokens BIGINT;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 8, 'run_rates', 'f66df8831cbd976aed35ede22fdb1651f0e08942427d3cc5db68bb973e0ab3d3');
COMMIT;

-- ==== core/0009_hours
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0009 hours: an hour's calls are found by an index where cache_usage_hourly is a view.
-- Why:   a question about some hours read every call that is stored.
-- Lock:  SHARE on llm_interactions while the index is made: writers wait, readers do not; about 1 s a million calls.
--
-- The view's hour is now date_bin, which is the same but can be indexed: it depends on no setting. BRIN, because calls
-- arrive in the order of time: the index is of some kilobytes and costs a write next to nothing. A continuous aggregate
-- of TimescaleDB needs neither.

DO $$
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = to_regclass('cache_usage_hourly')) <> 'v'
        OR (
            to_regclass('_timescaledb_catalog.continuous_agg') IS NOT NULL
            AND EXISTS (
                SELECT 1 FROM pg_depend AS d
                JOIN pg_rewrite AS w ON w.oid = d.objid AND w.ev_class = to_regclass('cache_usage_hourly')
                JOIN pg_class AS c ON c.oid = d.refobjid
                JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = '_timescaledb_internal'
            )
        )
    THEN
        RETURN;
    END IF;
    CREATE OR REPLACE VIEW cache_usage_hourly AS
    SELECT
        date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket,
        provider,
        model,
        service_tier,
        count(*) AS total_interactions,
        count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
        count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
        count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
        count(*) FILTER (WHERE NOT success) AS failed_interactions,
        count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
        sum(prompt_tokens::bigint) AS prompt_tokens,
        sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_prompt_tokens,
        sum(completion_tokens::bigint) AS completion_tokens,
        sum(total_tokens::bigint) AS total_tokens,
        sum(cached_tokens::bigint) AS cached_tokens,
        sum(uncached_prompt_tokens::bigint) AS uncached_prompt_tokens,
        sum(cache_write_tokens::bigint) AS cache_write_tokens,
        sum(reasoning_tokens::bigint) AS reasoning_tokens,
        sum(total_cost) AS total_cost,
        sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
        sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
        count(duration_ms) AS timed_interactions,
        sum(duration_ms) AS duration_ms,
        count(time_to_first_token_ms) AS streamed_interactions,
        sum(time_to_first_token_ms) AS time_to_first_token_ms,
        count(total_cost) AS priced_interactions,
        sum(cached_tokens::bigint) FILTER (WHERE prompt_tokens IS NOT NULL) AS rated_cached_tokens,
        sum(uncached_prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_uncached_tokens
    FROM llm_interactions
    GROUP BY 1, 2, 3, 4;
    CREATE INDEX IF NOT EXISTS idx_llm_hour ON llm_interactions
        USING brin (date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00'))
        WITH (pages_per_range = 32, autosummarize = on);
END
$$;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 9, 'hours', '394faf3a84f9ddae1c4a97bd70b1671c533b508de9d58f43f5a3bcff01566e5a');
COMMIT;

-- ==== citus/0009_cache_usage_hourly
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0009 cache_usage_hourly: the view's sums are by query_id, too, which is not among its columns.
-- Why:   sums by what the rows are distributed by are made on the shards as a whole, and with them the bounds of a
--        question: some hours are then found by each shard's index. Without it, Citus first sums up all hours there are.
-- Lock:  ACCESS EXCLUSIVE on the view, for a moment.
-- Needs: Citus 12 or newer.
--
-- An hour, provider, model and service tier may so have several rows, one a query: who reads the view sums them up, as
-- every query of this library does on every engine.

CREATE OR REPLACE VIEW cache_usage_hourly AS
SELECT
    date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket,
    provider,
    model,
    service_tier,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
    count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
    count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
    count(*) FILTER (WHERE NOT success) AS failed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    sum(prompt_tokens::bigint) AS prompt_tokens,
    sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_prompt_tokens,
    sum(completion_tokens::bigint) AS completion_tokens,
    sum(total_tokens::bigint) AS total_tokens,
    sum(cached_tokens::bigint) AS cached_tokens,
    sum(uncached_prompt_tokens::bigint) AS uncached_prompt_tokens,
    sum(cache_write_tokens::bigint) AS cache_write_tokens,
    sum(reasoning_tokens::bigint) AS reasoning_tokens,
    sum(total_cost) AS total_cost,
    sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
    count(duration_ms) AS timed_interactions,
    sum(duration_ms) AS duration_ms,
    count(time_to_first_token_ms) AS streamed_interactions,
    sum(time_to_first_token_ms) AS time_to_first_token_ms,
    count(total_cost) AS priced_interactions,
    sum(cached_tokens::bigint) FILTER (WHERE prompt_tokens IS NOT NULL) AS rated_cached_tokens,
    sum(uncached_prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_uncached_tokens
FROM llm_interactions
GROUP BY 1, 2, 3, 4, query_id;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 9, 'cache_usage_hourly', '4d23f2b93ad7b17a3259fb5da4f75031c9930a5cc8bd8fc54ad1224aa4ea7837');
COMMIT;
