-- 0002 columns: add the columns of this library to the legacy tables, and give existing ones the types that it needs.
-- Why:   an upgrade keeps the tables in place: their own columns, and the views on them, are kept.
-- Lock:  ACCESS EXCLUSIVE on the tables: for a moment where columns are only added; while the table is rewritten (some
--        seconds per million rows) where prices or costs are NUMERIC, or durations INTEGER.
--
-- New columns are NULL in existing rows: NULL means "not reported". Existing zeros are kept. The default 0 of
-- cached_tokens applies to rows that are inserted manually from now on.
--
-- migrations/0001 creates token_cache_optimization if it does not exist. query_run_summaries is created here, because
-- 0003 lists the runs in it.

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
    ADD COLUMN IF NOT EXISTS usage_anomaly TEXT,
    ADD COLUMN IF NOT EXISTS fingerprint BYTEA,
    ADD COLUMN IF NOT EXISTS token_details JSONB,
    ADD COLUMN IF NOT EXISTS tool_usage JSONB,
    ADD COLUMN IF NOT EXISTS request_options JSONB,
    ADD COLUMN IF NOT EXISTS charges JSONB,
    ADD COLUMN IF NOT EXISTS unpriced_reason TEXT,
    ADD COLUMN IF NOT EXISTS cost_excludes JSONB,
    ADD COLUMN IF NOT EXISTS tags JSONB,
    ADD COLUMN IF NOT EXISTS call_site TEXT,
    ADD COLUMN IF NOT EXISTS trace_id TEXT,
    ADD COLUMN IF NOT EXISTS span_id TEXT,
    ADD COLUMN IF NOT EXISTS response_id TEXT,
    ADD COLUMN IF NOT EXISTS cache_diagnostics JSONB;

-- A failed call has no duration; other values may also be unknown.
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
    ALTER COLUMN usage_anomaly DROP NOT NULL,
    ALTER COLUMN token_details DROP NOT NULL,
    ALTER COLUMN tool_usage DROP NOT NULL,
    ALTER COLUMN request_options DROP NOT NULL,
    ALTER COLUMN charges DROP NOT NULL,
    ALTER COLUMN unpriced_reason DROP NOT NULL,
    ALTER COLUMN cost_excludes DROP NOT NULL,
    ALTER COLUMN tags DROP NOT NULL,
    ALTER COLUMN call_site DROP NOT NULL,
    ALTER COLUMN trace_id DROP NOT NULL,
    ALTER COLUMN span_id DROP NOT NULL,
    ALTER COLUMN response_id DROP NOT NULL,
    ALTER COLUMN cache_diagnostics DROP NOT NULL;

ALTER TABLE llm_interactions
    ALTER COLUMN cached_tokens SET DEFAULT 0,
    ALTER COLUMN interaction_id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN success SET DEFAULT TRUE;

CREATE TABLE IF NOT EXISTS query_run_summaries (
    query_id   TEXT        NOT NULL,
    run_id     TIMESTAMPTZ NOT NULL,
    start_time TIMESTAMPTZ NOT NULL,
    status     TEXT        NOT NULL DEFAULT 'running',
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
    ADD COLUMN IF NOT EXISTS p99_duration_ms DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS first_call_time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS last_call_time TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS reported_prompt_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS rated_cached_tokens BIGINT,
    ADD COLUMN IF NOT EXISTS tags JSONB,
    ADD COLUMN IF NOT EXISTS success BOOLEAN,
    ADD COLUMN IF NOT EXISTS score DOUBLE PRECISION,
    ADD COLUMN IF NOT EXISTS outcome_label TEXT;

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
    ALTER COLUMN p99_duration_ms DROP NOT NULL,
    ALTER COLUMN tags DROP NOT NULL,
    ALTER COLUMN success DROP NOT NULL,
    ALTER COLUMN score DROP NOT NULL,
    ALTER COLUMN outcome_label DROP NOT NULL;

ALTER TABLE IF EXISTS token_cache_optimization
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

ALTER TABLE IF EXISTS token_cache_optimization
    ALTER COLUMN cache_savings_percentage DROP NOT NULL,
    ALTER COLUMN original_cost DROP NOT NULL,
    ALTER COLUMN cached_cost DROP NOT NULL,
    ALTER COLUMN cost_savings DROP NOT NULL,
    ALTER COLUMN cost_savings_percentage DROP NOT NULL;

-- Types that hold every value: text of any length, costs with any number of decimals, sums as BIGINT. A column that a
-- view uses keeps its type.
DO $$
DECLARE
    narrow RECORD;
BEGIN
    FOR narrow IN
        SELECT c.relname, a.attname, w.type
        FROM (
            VALUES
                ('llm_interactions', 'TEXT', ARRAY['varchar', 'bpchar', 'uuid'], ARRAY[
                    'query_id', 'model', 'model_type', 'recursion_id', 'parent_recursion_id', 'error_message',
                    'error_type', 'provider', 'api', 'service_tier', 'finish_reason', 'request_id', 'price_source',
                    'usage_anomaly', 'unpriced_reason', 'call_site', 'trace_id', 'span_id', 'response_id'
                ]),
                ('llm_interactions', 'DOUBLE PRECISION', ARRAY['numeric', 'float4', 'int4', 'int8'], ARRAY[
                    'prompt_token_price', 'cached_token_price', 'cache_write_token_price', 'completion_token_price',
                    'total_cost', 'original_cost', 'duration_ms', 'time_to_first_token_ms'
                ]),
                ('llm_interactions', 'INTEGER', ARRAY['int2'], ARRAY[
                    'prompt_tokens', 'completion_tokens', 'total_tokens', 'cached_tokens', 'uncached_prompt_tokens',
                    'cache_write_tokens', 'reasoning_tokens', 'context_messages', 'context_tokens', 'response_length',
                    'iteration', 'model_index', 'current_depth', 'max_depth', 'tool_call_count'
                ]),
                ('llm_interactions', 'JSONB', ARRAY['json'], ARRAY[
                    'metadata', 'usage', 'token_details', 'tool_usage', 'request_options', 'charges', 'cost_excludes',
                    'tags', 'cache_diagnostics'
                ]),
                ('query_run_summaries', 'TEXT', ARRAY['varchar', 'bpchar', 'uuid'], ARRAY[
                    'query_id', 'status', 'outcome_label'
                ]),
                ('query_run_summaries', 'JSONB', ARRAY['json'], ARRAY['metadata', 'tags']),
                ('query_run_summaries', 'BIGINT', ARRAY['int2', 'int4'], ARRAY[
                    'total_interactions', 'failed_interactions', 'total_prompt_tokens', 'total_completion_tokens',
                    'total_tokens', 'total_cached_tokens'
                ]),
                ('query_run_summaries', 'DOUBLE PRECISION', ARRAY['numeric', 'float4', 'int2', 'int4', 'int8'], ARRAY[
                    'total_cost', 'avg_duration_ms', 'p50_duration_ms', 'p95_duration_ms', 'p99_duration_ms', 'score'
                ]),
                ('token_cache_optimization', 'TEXT', ARRAY['varchar', 'bpchar', 'uuid'], ARRAY['query_id']),
                ('token_cache_optimization', 'JSONB', ARRAY['json'], ARRAY['cache_evolution']),
                ('token_cache_optimization', 'BIGINT', ARRAY['int2', 'int4'], ARRAY[
                    'total_prompt_tokens', 'total_cached_tokens', 'cache_savings_tokens', 'total_interactions',
                    'interactions_with_cache', 'interactions_without_cache', 'interactions_not_reported',
                    'unpriced_interactions'
                ]),
                (
                    'token_cache_optimization', 'DOUBLE PRECISION', ARRAY['numeric', 'float4', 'int2', 'int4', 'int8'],
                    ARRAY[
                        'cache_savings_percentage', 'original_cost', 'cached_cost', 'cost_savings',
                        'cost_savings_percentage'
                    ]
                )
        ) AS w (name, type, narrow_types, columns)
        JOIN pg_class AS c ON c.oid = to_regclass(w.name)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped AND a.attname = ANY (w.columns)
        JOIN pg_type AS t ON t.oid = a.atttypid AND t.typname = ANY (w.narrow_types)
    LOOP
        BEGIN
            EXECUTE format('ALTER TABLE %I ALTER COLUMN %I TYPE %s', narrow.relname, narrow.attname, narrow.type);
        EXCEPTION WHEN feature_not_supported THEN
            RAISE NOTICE 'a view uses %.%, which therefore keeps its type', narrow.relname, narrow.attname;
        END;
    END LOOP;
END
$$;
