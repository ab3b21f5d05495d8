-- 0001 distribute: tables that grow are distributed by query_id and co-located; small tables are copied to every node.
-- Why:   a batch is written on the nodes that hold its shards, a run is read from one shard, sums are computed on the
--        shards. The list of applied migrations is on every node, so programs may connect to any node.
-- Lock:  ACCESS EXCLUSIVE on the tables while existing rows move into shards: about 15 s per million calls.
-- Needs: Citus 12 or newer.
--
-- The number of shards is the current citus.shard_count (default 32). alter_distributed_table changes it later.

SET LOCAL citus.multi_shard_modify_mode = 'sequential';

-- A database that was a plain PostgreSQL when it was migrated has triggers that log changed hours (postgresql/0001). This
-- engine computes the sums in its own way.
-- include: fragments/hours_by_view.sql

-- A legacy table that was upgraded on plain PostgreSQL may still have its old primary key. Citus refuses a unique key
-- without query_id, so the key of this library replaces it.
DO $$
DECLARE
    old RECORD;
BEGIN
    FOR old IN
        SELECT n.name, c.conname, n.key, n.unique_index
        FROM (
            VALUES
                ('llm_interactions', 'query_id, run_id, time, interaction_id', 'idx_llm_key'),
                ('token_cache_optimization', 'query_id, run_id', 'idx_token_cache_optimization_key'),
                ('query_run_summaries', 'query_id, run_id', 'idx_query_run_summaries_key')
        ) AS n (name, key, unique_index)
        JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name) AND c.contype = 'p'
        WHERE NOT EXISTS (
            SELECT 1 FROM pg_attribute AS a
            WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = 'query_id'
        )
    LOOP
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', old.name, old.conname);
        EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (%s)', old.name, old.key);
        EXECUTE format('DROP INDEX IF EXISTS %I', old.unique_index);
    END LOOP;
END
$$;

SELECT create_distributed_table('llm_interactions', 'query_id');
SELECT create_distributed_table('token_cache_optimization', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('query_run_summaries', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('price_change_rows', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('price_change_runs', 'query_id', colocate_with => 'llm_interactions');
SELECT create_reference_table('price_changes');
SELECT create_reference_table('alert_states');
SELECT create_reference_table('budgets');
SELECT create_reference_table('price_lists');
SELECT create_reference_table('rlm_cachetrack_migrations');

-- Citus leaves the previous rows in the coordinator's local tables, where no query reads them.
SELECT truncate_local_data_after_distributing_table('llm_interactions');
SELECT truncate_local_data_after_distributing_table('token_cache_optimization');
SELECT truncate_local_data_after_distributing_table('query_run_summaries');
SELECT truncate_local_data_after_distributing_table('price_change_rows');
SELECT truncate_local_data_after_distributing_table('price_change_runs');
SELECT truncate_local_data_after_distributing_table('price_changes');
SELECT truncate_local_data_after_distributing_table('alert_states');
SELECT truncate_local_data_after_distributing_table('budgets');
SELECT truncate_local_data_after_distributing_table('price_lists');
SELECT truncate_local_data_after_distributing_table('rlm_cachetrack_migrations');

-- Sums per hour (UTC), provider, model and service tier; columns: see postgresql/0001. The view is also grouped by
-- query_id, which is not among its columns: Citus pushes sums that are
-- grouped by the distribution column, and the time bounds of a query, down to the shards. Without it, Citus sums every
-- hour first. An hour, provider, model and service tier may therefore have several rows, one per query_id. All queries
-- of this library sum them up.
CREATE OR REPLACE VIEW cache_usage_hourly AS
SELECT
    date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket,
    -- include: fragments/hourly_sums.sql
FROM llm_interactions
GROUP BY 1, 2, 3, 4, query_id;

DROP VIEW IF EXISTS rlm_cachetrack_live_sums;
DROP TABLE IF EXISTS rlm_cachetrack_hourly_sums, rlm_cachetrack_changed_hours;
