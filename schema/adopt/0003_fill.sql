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
