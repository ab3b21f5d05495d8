-- 0001 hypertables: both growing tables become hypertables.
-- Why:   chunks by day keep the indexes of the present small, and let old days be compressed or dropped whole.
-- Lock:  ACCESS EXCLUSIVE on the two tables while existing rows move into chunks.
-- Needs: TimescaleDB, any licence.
--
-- token_cache_optimization is partitioned over run_id: TimescaleDB refuses a unique key without the partitioning
-- column, and its key is (query_id, run_id).

SELECT create_hypertable(
    'llm_interactions', 'time',
    chunk_time_interval => INTERVAL '1 day', create_default_indexes => FALSE, migrate_data => TRUE
);

SELECT create_hypertable(
    'token_cache_optimization', 'run_id',
    chunk_time_interval => INTERVAL '1 year', create_default_indexes => FALSE, migrate_data => TRUE
);
