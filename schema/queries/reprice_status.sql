-- reprice_status: Set the status of a re-pricing.
-- Parameters: change_id BIGINT; status TEXT.
-- Result:     none.
WITH clock AS MATERIALIZED (SELECT now() AS moment)
UPDATE price_changes SET
    status = %(status)s,
    finished_at = CASE WHEN %(status)s IN ('done', 'undone') THEN clock.moment END
FROM clock
WHERE change_id = %(change_id)s;
