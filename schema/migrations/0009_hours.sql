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
