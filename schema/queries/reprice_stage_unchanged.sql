-- reprice_stage_unchanged: Remove the staged calls that the new prices do not change.
-- Parameters: none; reads the table of reprice_stage.
-- Result:     none.
DELETE FROM rlm_cachetrack_repriced
WHERE is_detailed AND NOT (
    -- include: fragments/repriced_differs.sql
);
