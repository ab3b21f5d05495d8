-- hours_by_view: drop the triggers that log changed hours on plain PostgreSQL, and index the calls for a view of the sums.
--             Migrations include it, so it never changes once they are released.
-- Needs:  llm_interactions.
DROP TRIGGER IF EXISTS rlm_cachetrack_inserted ON llm_interactions;
DROP TRIGGER IF EXISTS rlm_cachetrack_updated ON llm_interactions;
DROP TRIGGER IF EXISTS rlm_cachetrack_deleted ON llm_interactions;
DROP TRIGGER IF EXISTS rlm_cachetrack_truncated ON llm_interactions;
DROP FUNCTION IF EXISTS rlm_cachetrack_log_changed_hours;

-- Finds the calls of an hour for the view below. A BRIN index takes a few kilobytes and almost no time per insert,
-- because calls arrive in time order. Its expression must equal the view's bucket.
CREATE INDEX IF NOT EXISTS idx_llm_hour ON llm_interactions
    USING brin (date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00'))
    WITH (pages_per_range = 32, autosummarize = on);
