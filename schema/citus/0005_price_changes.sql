-- 0005 price_changes: what re-pricings changed lies beside the calls and runs that it is about; the log is on every node.
-- Why:   a batch is then changed, and undone, where its calls are.
-- Lock:  ACCESS EXCLUSIVE on the three tables while rows that are there move.
-- Needs: Citus 12 or newer.

SET LOCAL citus.multi_shard_modify_mode = 'sequential';

-- Its rows are updated by no key of theirs; without one, shards cannot move while the program writes.
ALTER TABLE price_change_rows REPLICA IDENTITY FULL;

SELECT create_reference_table('price_changes');
SELECT create_distributed_table('price_change_rows', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('price_change_runs', 'query_id', colocate_with => 'llm_interactions');

SELECT truncate_local_data_after_distributing_table('price_changes');
SELECT truncate_local_data_after_distributing_table('price_change_rows');
SELECT truncate_local_data_after_distributing_table('price_change_runs');
