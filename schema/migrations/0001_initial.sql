-- 0001 initial: all tables and indexes, for every engine. The folders of the engines have the view of sums per hour.
-- Why:   the first release.
-- Lock:  none in a new database. After an upgrade of a legacy table: SHARE on it while its indexes are built (writers
--        wait, readers do not).
--
-- IF NOT EXISTS: the scripts in schema/upgrade may have prepared the first three tables. In any other database the
-- names were checked before (queries/existing_tables.sql).
--
-- Units: token counts use the OpenAI SDK's terms; prompt_tokens is all input, cached tokens included. NULL means "not
-- reported", 0 means "none". *_price: USD per 1,000 tokens. *_cost, cost_savings, amount_usd: USD. *_ms: milliseconds.
-- *_percentage: 0 to 100.

-- One row per call.
--
-- time:          when the call began
-- run_id:        start time of the run; with query_id it identifies the run
-- model_type:    the caller's name for the model's role, such as root or sub
-- total_cost:    NULL if the call is unpriced
-- original_cost: cost of the call with nothing cached and nothing written to the cache
-- price_source:  source of the prices
-- usage:         usage object exactly as the provider returned it
-- usage_anomaly: why the reported usage is not plausible
-- fingerprint:   keyed hash and size of each segment of the prompt, stored as a difference to an earlier call of the
--                run. It shows which part of a prompt changed, without its content; NULL if there is none.
--
-- NULL for the usual call:
-- token_details:     quantities without a column of their own, such as {"audio_prompt_tokens": 40}; none is 0
-- tool_usage:        billed uses of hosted tools, such as {"web_search": 2}
-- request_options:   values of the request that decide price or cache, such as {"region": "eu"}; never content. A value
--                    that the response states replaces that of the request.
-- charges:           components of the cost besides the four prices above: [{item, quantity, unit, price, amount}]
-- unpriced_reason:   which component lacks a price, if total_cost is NULL for that reason
-- cost_excludes:     components that are billed apart and cannot be known from one response: ["code_interpreter"]
-- tags:              the caller's tags, such as {"user": "u-17"}
-- call_site:         module:function that made the call
-- trace_id, span_id: the OpenTelemetry span that was current, in hexadecimal digits
-- cache_diagnostics: the provider's own reason for a cache miss, as it was returned
CREATE TABLE IF NOT EXISTS llm_interactions (
    time                    TIMESTAMPTZ      NOT NULL,
    interaction_id          UUID             NOT NULL DEFAULT gen_random_uuid(),
    query_id                TEXT             NOT NULL,
    run_id                  TIMESTAMPTZ      NOT NULL,
    model                   TEXT             NOT NULL,
    model_type              TEXT,
    model_index             INTEGER,
    prompt_tokens           INTEGER,
    completion_tokens       INTEGER,
    total_tokens            INTEGER,
    -- The library always sets cached_tokens. The default is for rows inserted by hand.
    cached_tokens           INTEGER          DEFAULT 0,
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
    success                 BOOLEAN          NOT NULL DEFAULT TRUE,
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
    fingerprint             BYTEA,
    token_details           JSONB,
    tool_usage              JSONB,
    request_options         JSONB,
    charges                 JSONB,
    unpriced_reason         TEXT,
    cost_excludes           JSONB,
    tags                    JSONB,
    call_site               TEXT,
    trace_id                TEXT,
    span_id                 TEXT,
    response_id             TEXT,
    cache_diagnostics       JSONB,
    -- This order serves reads of one run. TimescaleDB requires time in the key, Citus requires query_id.
    PRIMARY KEY (query_id, run_id, time, interaction_id)
);

CREATE INDEX IF NOT EXISTS idx_llm_cached_tokens ON llm_interactions (cached_tokens DESC, time DESC);
CREATE INDEX IF NOT EXISTS idx_llm_total_cost ON llm_interactions (total_cost DESC, time DESC);
CREATE INDEX IF NOT EXISTS idx_llm_time ON llm_interactions (time DESC);

-- For `doctor`, which lists the models of unpriced calls.
CREATE INDEX IF NOT EXISTS idx_llm_unpriced ON llm_interactions (model, time DESC)
    WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL);

-- For usage by tag. A call without tags, the usual one, has no entry.
CREATE INDEX IF NOT EXISTS idx_llm_tags ON llm_interactions USING gin (tags jsonb_path_ops) WHERE tags IS NOT NULL;

-- For alerts about cache busts: the calls that may have broken a cached prefix.
CREATE INDEX IF NOT EXISTS idx_llm_uncached ON llm_interactions (time DESC) INCLUDE (query_id, run_id)
    WHERE success AND fingerprint IS NOT NULL AND prompt_tokens - cached_tokens > 1024;

-- One row per run whose savings were calculated. cached_cost: cost of the run. cost_savings: original_cost minus
-- cached_cost. cache_evolution: [{iteration, prompt_tokens, cached_tokens, cache_hit_rate}].
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

CREATE INDEX IF NOT EXISTS idx_cache_opt_query_id ON token_cache_optimization (query_id, time DESC);
CREATE INDEX IF NOT EXISTS idx_cache_opt_savings ON token_cache_optimization (cost_savings DESC, time DESC);

-- One row per run. The totals are set when the run ends. success, score and outcome_label are the outcome that the caller
-- recorded; NULL if none was.
--
-- first_call_time, last_call_time: bounds of the run's calls, so that a read of the run opens the chunks of its days
--     only. NULL: not known, every chunk is searched. Programs that insert calls without this library must widen the
--     bounds or set them to NULL.
-- reported_prompt_tokens: prompt tokens of the calls that reported their cache use. rated_cached_tokens: cached tokens
--     of the calls that also reported their prompt tokens. Their quotient is the hit rate, so that the list of runs
--     reads no call of an ended run. NULL: the calls are counted instead. Programs that insert calls into an ended run
--     without this library must set reported_prompt_tokens to NULL.
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
    first_call_time         TIMESTAMPTZ,
    last_call_time          TIMESTAMPTZ,
    reported_prompt_tokens  BIGINT,
    rated_cached_tokens     BIGINT,
    tags                    JSONB,
    success                 BOOLEAN,
    score                   DOUBLE PRECISION,
    outcome_label           TEXT,
    PRIMARY KEY (query_id, run_id)
);

CREATE INDEX IF NOT EXISTS idx_query_run_summaries_start ON query_run_summaries (start_time DESC, query_id);

-- Spending limits per period, for `budget check`. period is in UTC, a week begins on Monday. model: NULL for all
-- models.
CREATE TABLE budgets (
    name       TEXT             PRIMARY KEY,
    amount_usd DOUBLE PRECISION NOT NULL CHECK (amount_usd > 0),
    period     TEXT             NOT NULL CHECK (period IN ('day', 'week', 'month')),
    model      TEXT,
    changed_at TIMESTAMPTZ      NOT NULL DEFAULT now()
);

-- Price lists of genai-prices that `prices update` fetched. All processes price with the newest row that has data.
--
-- origin: address or file, without password and query string
-- sha8:   first 8 hex digits of the SHA-256 of data; price_source names it with the day of fetched_at (UTC)
-- data:   the file as published, JSON. NULL: a daily update began then; at most one begins per day, and if it succeeds
--         and finds other data, another row has them.
CREATE TABLE price_lists (
    list_id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fetched_at TIMESTAMPTZ      NOT NULL DEFAULT now(),
    origin     TEXT             NOT NULL,
    sha8       TEXT,
    data       TEXT
);

-- One row per alert rule of `watch`, so that several watchers notify once.
--
-- firing:   the rule holds; it ends only when its recovery condition is met
-- value:    what was compared, in the unit of the rule; reason: a sentence
-- notified: the last change of firing was sent
-- valid_until: when a watcher should have evaluated the rule again; each evaluation extends it. After that the state is
--           unknown, for example because the rule was removed.
CREATE TABLE alert_states (
    name        TEXT             PRIMARY KEY,
    firing      BOOLEAN          NOT NULL,
    value       DOUBLE PRECISION,
    reason      TEXT             NOT NULL,
    changed_at  TIMESTAMPTZ      NOT NULL DEFAULT now(),
    notified    BOOLEAN          NOT NULL DEFAULT FALSE,
    valid_until TIMESTAMPTZ      NOT NULL DEFAULT now()
);

-- One row per re-pricing, which can be resumed and undone.
--
-- status:   running (calls are re-priced), summing (totals of runs are recalculated), done, undoing, undone
-- pricing:  name of the price book
-- since, until, model, query_id: filters; NULL for none. unpriced: only calls without a cost. include_given: also calls
--           whose prices were given by hand.
-- rates:    prices that are applied, by model, provider, tier, time and prompt size. A resumed re-pricing uses the
--           prices that it began with.
-- cursor_*: the last call that was processed
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
    unpriced             BOOLEAN          NOT NULL DEFAULT FALSE,
    include_given        BOOLEAN          NOT NULL DEFAULT FALSE,
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

-- Previous prices and costs of each changed call.
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
    price_source            TEXT,
    charges                 JSONB,
    unpriced_reason         TEXT,
    cost_excludes           JSONB,
    PRIMARY KEY (change_id, batch, query_id, run_id, time, interaction_id)
);

-- Previous totals of each run with a changed call. If the counts differ from the current ones, calls were added since.
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
