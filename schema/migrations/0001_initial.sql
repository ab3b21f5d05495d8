-- 0001 initial: the three tables, their keys and indexes.
-- Why:   the first release.
-- Lock:  none on existing data; takes no lock that waits for readers or writers of other tables.
--
-- Tokens: the OpenAI SDK's words; prompt_tokens is all input, cached included. NULL is "not reported", 0 is "none".
-- Prices: USD per 1,000 tokens. Costs: USD. *_ms: milliseconds. usage: what the server sent, as it sent it.

CREATE TABLE llm_interactions (
    time                    TIMESTAMPTZ      NOT NULL,
    interaction_id          UUID             NOT NULL,
    query_id                TEXT             NOT NULL,
    run_id                  TIMESTAMPTZ      NOT NULL,
    model                   TEXT             NOT NULL,
    model_type              TEXT,
    model_index             INTEGER,
    prompt_tokens           INTEGER,
    completion_tokens       INTEGER,
    total_tokens            INTEGER,
    cached_tokens           INTEGER,
    uncached_prompt_tokens  INTEGER,
    cache_write_tokens      INTEGER,
    reasoning_tokens        INTEGER,
    prompt_token_price      DOUBLE PRECISION,
    cached_token_price      DOUBLE PRECISION,
    cache_write_token_price DOUBLE PRECISION,
    completion_token_price  DOUBLE PRECISION,
    total_cost              DOUBLE PRECISION,
    original_cost           DOUBLE PRECISION,
    duration_ms             DOUBLE PRECISION,
    time_to_first_token_ms  DOUBLE PRECISION,
    start_time              TIMESTAMPTZ,
    end_time                TIMESTAMPTZ,
    context_messages        INTEGER,
    context_tokens          INTEGER,
    response_length         INTEGER,
    iteration               INTEGER,
    recursion_id            TEXT,
    parent_recursion_id     TEXT,
    current_depth           INTEGER,
    max_depth               INTEGER,
    has_tool_calls          BOOLEAN,
    tool_call_count         INTEGER,
    success                 BOOLEAN          NOT NULL,
    error_message           TEXT,
    error_type              TEXT,
    metadata                JSONB,
    provider                TEXT,
    api                     TEXT,
    service_tier            TEXT,
    finish_reason           TEXT,
    request_id              TEXT,
    price_source            TEXT,
    usage                   JSONB,
    usage_anomaly           TEXT,
    -- One key that serves the read of a run, holds on a hypertable over time, and when Citus distributes by query_id.
    PRIMARY KEY (query_id, run_id, time, interaction_id)
);

-- A row written by hand that does not speak of the cache means "none"; the library always says which.
ALTER TABLE llm_interactions ALTER COLUMN cached_tokens SET DEFAULT 0;
ALTER TABLE llm_interactions ALTER COLUMN interaction_id SET DEFAULT gen_random_uuid();
ALTER TABLE llm_interactions ALTER COLUMN success SET DEFAULT TRUE;

CREATE INDEX idx_llm_cached_tokens ON llm_interactions (cached_tokens DESC, time DESC);
CREATE INDEX idx_llm_total_cost ON llm_interactions (total_cost DESC, time DESC);
CREATE INDEX idx_llm_time ON llm_interactions (time DESC);

CREATE TABLE token_cache_optimization (
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

CREATE INDEX idx_cache_opt_query_id ON token_cache_optimization (query_id, time DESC);
CREATE INDEX idx_cache_opt_savings ON token_cache_optimization (cost_savings DESC, time DESC);

CREATE TABLE query_run_summaries (
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

CREATE INDEX idx_query_run_summaries_start ON query_run_summaries (start_time DESC, query_id);
