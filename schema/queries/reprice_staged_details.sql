-- reprice_staged_details: Return the staged calls that have more components than the four prices.
-- Parameters: none; reads the table of reprice_stage.
-- Result:     one row per call: the columns of fragments/repriced.sql.
SELECT * FROM rlm_cachetrack_repriced WHERE is_detailed;
