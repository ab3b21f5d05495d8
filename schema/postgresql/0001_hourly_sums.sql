-- 0001 hourly sums: cache_usage_hourly, whose sums are stored, and exact at every moment.
-- Why:   a month is read from a few thousand stored rows instead of every call.
-- Lock:  SHARE ROW EXCLUSIVE on llm_interactions (writers wait, readers do not) while existing calls are summed: about
--        2 s per million calls.
-- Needs: PostgreSQL without TimescaleDB and Citus, which compute the sums in their own way.
--
-- Every statement that changes calls logs their hours. A logged hour is summed from its calls, every other hour is read
-- from the stored sums. A refresh sums logged hours, stores the result, and deletes exactly the log rows that it saw, in
-- one REPEATABLE READ transaction. A transaction that commits later has log rows of its own, which the refresh neither
-- saw nor deleted. Therefore transactions never share a row of the log: no ON CONFLICT, no unique hour.

-- Hours in which calls were inserted, updated or deleted since they were last summed: one row per statement and hour.
--
-- changed_at: when the statement ran; an hour is refreshed once it has not changed for a while
CREATE TABLE rlm_cachetrack_changed_hours (
    log_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hour       TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

-- Sums of the logged hours, from their calls. One index scan per hour, so that no other call is read.
CREATE VIEW rlm_cachetrack_live_sums AS
SELECT changed.hour AS bucket, sums.*
FROM (SELECT DISTINCT hour FROM rlm_cachetrack_changed_hours) AS changed
CROSS JOIN LATERAL (
    SELECT
        -- include: fragments/hourly_sums.sql
    FROM llm_interactions
    WHERE time >= changed.hour AND time < changed.hour + INTERVAL '1 hour'
    GROUP BY provider, model, service_tier
) AS sums;

-- The stored sums. Provider and service tier may be NULL, so they cannot be in a primary key; logical replication needs
-- one.
CREATE TABLE rlm_cachetrack_hourly_sums AS SELECT * FROM rlm_cachetrack_live_sums WITH NO DATA;
ALTER TABLE rlm_cachetrack_hourly_sums ADD COLUMN sum_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY;

CREATE INDEX rlm_cachetrack_hourly_sums_bucket ON rlm_cachetrack_hourly_sums (bucket);

-- Sums per hour (UTC), provider, model and service tier. The other engines have a view or continuous aggregate with the
-- same name and columns.
--
-- reported_*:          sums over the calls that reported their cache use; rated_cached_tokens is the numerator of a
--                      hit rate, reported_prompt_tokens its denominator
-- total_cost, original_cost: sums over the priced calls
-- compared_cost:       total_cost of the calls whose original_cost is known; the savings are original_cost minus this
-- priced_interactions: calls with a cost, the denominator of an average cost
-- duration_ms, time_to_first_token_ms: sums over timed_interactions and streamed_interactions
CREATE VIEW cache_usage_hourly AS
SELECT
    bucket, provider, model, service_tier, total_interactions, interactions_with_cache, interactions_without_cache,
    interactions_not_reported, failed_interactions, unpriced_interactions, prompt_tokens, reported_prompt_tokens,
    completion_tokens, total_tokens, cached_tokens, uncached_prompt_tokens, cache_write_tokens, reasoning_tokens,
    total_cost, original_cost, compared_cost, timed_interactions, duration_ms, streamed_interactions,
    time_to_first_token_ms, priced_interactions, rated_cached_tokens, reported_uncached_tokens
FROM rlm_cachetrack_hourly_sums AS stored
WHERE NOT EXISTS (SELECT FROM rlm_cachetrack_changed_hours AS changed WHERE changed.hour = stored.bucket)
UNION ALL
SELECT * FROM rlm_cachetrack_live_sums;

-- Logs the hours of the calls that a statement changed. It has the rights of its owner, so that every role that may
-- insert calls logs their hours, and finds the tables in the schema of llm_interactions, whatever the search_path is.
CREATE FUNCTION rlm_cachetrack_log_changed_hours() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO %1$I.rlm_cachetrack_changed_hours (hour) '
        || CASE TG_OP
            WHEN 'TRUNCATE' THEN 'SELECT DISTINCT bucket FROM %1$I.rlm_cachetrack_hourly_sums'
            ELSE 'SELECT DISTINCT date_bin(INTERVAL ''1 hour'', time, TIMESTAMPTZ ''2000-01-01 00:00:00+00'') FROM '
        END
        || CASE TG_OP
            WHEN 'INSERT' THEN 'new_calls'
            WHEN 'DELETE' THEN 'old_calls'
            WHEN 'UPDATE' THEN '(SELECT time FROM new_calls UNION ALL SELECT time FROM old_calls) AS calls'
            ELSE ''
        END,
        TG_TABLE_SCHEMA
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER rlm_cachetrack_inserted AFTER INSERT ON llm_interactions
    REFERENCING NEW TABLE AS new_calls
    FOR EACH STATEMENT EXECUTE FUNCTION rlm_cachetrack_log_changed_hours();

CREATE TRIGGER rlm_cachetrack_updated AFTER UPDATE ON llm_interactions
    REFERENCING OLD TABLE AS old_calls NEW TABLE AS new_calls
    FOR EACH STATEMENT EXECUTE FUNCTION rlm_cachetrack_log_changed_hours();

CREATE TRIGGER rlm_cachetrack_deleted AFTER DELETE ON llm_interactions
    REFERENCING OLD TABLE AS old_calls
    FOR EACH STATEMENT EXECUTE FUNCTION rlm_cachetrack_log_changed_hours();

CREATE TRIGGER rlm_cachetrack_truncated AFTER TRUNCATE ON llm_interactions
    FOR EACH STATEMENT EXECUTE FUNCTION rlm_cachetrack_log_changed_hours();

-- The calls of a legacy table that was upgraded.
INSERT INTO rlm_cachetrack_changed_hours (hour)
SELECT DISTINCT date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') FROM llm_interactions;
INSERT INTO rlm_cachetrack_hourly_sums SELECT * FROM rlm_cachetrack_live_sums;
DELETE FROM rlm_cachetrack_changed_hours;
