-- 0001 distribute: the tables that grow are spread over the nodes by query_id, with all that belongs to a run together.
-- Why:   a batch's rows go to the nodes that hold their shards, a run is read from one shard, and all else is summed up
--        where it lies. What was applied is known on every node, so that a program may connect to any of them.
-- Lock:  ACCESS EXCLUSIVE on the tables while rows that are there move into shards (about 15 s a million calls).
-- Needs: Citus 12 or newer.
--
-- How many shards there are is citus.shard_count (32 by default) as this runs; alter_distributed_table changes it later.

SET LOCAL citus.multi_shard_modify_mode = 'sequential';

SELECT create_distributed_table('llm_interactions', 'query_id');
SELECT create_distributed_table('token_cache_optimization', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('query_run_summaries', 'query_id', colocate_with => 'llm_interactions');
SELECT create_reference_table('rlm_cachetrack_migrations');

-- What was there before stays behind, unseen, in the coordinator's own tables.
SELECT truncate_local_data_after_distributing_table('llm_interactions');
SELECT truncate_local_data_after_distributing_table('token_cache_optimization');
SELECT truncate_local_data_after_distributing_table('query_run_summaries');
SELECT truncate_local_data_after_distributing_table('rlm_cachetrack_migrations');
