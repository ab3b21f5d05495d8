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
