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
