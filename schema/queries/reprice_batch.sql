-- reprice_batch: Return the changes that the new prices make in a batch.
-- Parameters: none; reads the table of reprice_stage.
-- Result:     one row: changed BIGINT; cost_before, cost_after: USD over the priced calls; first_changed, last_changed
--             TIMESTAMPTZ. NULL if nothing is changed.
SELECT
    count(*) AS changed, sum(total_cost) AS cost_before, sum(new_total) AS cost_after,
    min(time) AS first_changed, max(time) AS last_changed
FROM rlm_cachetrack_repriced;
