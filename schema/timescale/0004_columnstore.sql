-- 0004 columnstore: calls older than a week move to the columnstore.
-- Why:   a tenth of the space, and reads of a few columns over much time are faster.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions, for a moment; chunks are converted by a background job, one by one.
-- Needs: TimescaleDB with its community licence.
--
-- Segments by model: what is asked over long times is asked by model. Within a segment the order is that of the primary
-- key, so that one run's rows lie in one or two batches of 1,000, and the smallest and largest values kept for each
-- batch let a read of a run, and the look for a row that is there already, skip all others. Late rows go into the
-- chunk beside its columnstore, and are merged into it by the same job.

ALTER TABLE llm_interactions SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'model',
    timescaledb.orderby = 'query_id, run_id, time, interaction_id'
);

CALL add_columnstore_policy('llm_interactions', after => INTERVAL '7 days');
