-- 0006 hypertables: both growing tables become hypertables, where they are not yet.
-- Why:   chunks by day keep the indexes of the present small, and let old days be compressed or dropped whole.
-- Lock:  ACCESS EXCLUSIVE on the two tables while existing rows move into chunks: 10-30 s a million rows.
-- For:   TimescaleDB.
--
-- A hypertable that is there keeps its chunks; new ones are of one day.

SELECT create_hypertable(
    'llm_interactions', 'time',
    chunk_time_interval => INTERVAL '1 day', create_default_indexes => FALSE, migrate_data => TRUE, if_not_exists => TRUE
);

SELECT set_chunk_time_interval('llm_interactions', INTERVAL '1 day');

SELECT create_hypertable(
    'token_cache_optimization', 'run_id',
    chunk_time_interval => INTERVAL '1 year', create_default_indexes => FALSE, migrate_data => TRUE,
    if_not_exists => TRUE
);
