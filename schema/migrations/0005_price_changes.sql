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
