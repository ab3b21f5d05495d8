-- reprice_advance: Record that a batch of a re-pricing is done.
-- Parameters: change_id BIGINT; interactions BIGINT: number of calls in the batch; last_time TIMESTAMPTZ, last_id UUID:
--             its last call; changed, cost_before, cost_after, first_changed, last_changed: as reprice_batch returns
--             them.
-- Result:     one row: looked_at, changed_interactions BIGINT.
UPDATE price_changes SET
    looked_at = looked_at + %(interactions)s,
    changed_interactions = changed_interactions + %(changed)s,
    batches = batches + 1,
    cost_before = coalesce(cost_before + %(cost_before)s::double precision, cost_before, %(cost_before)s::double precision),
    cost_after = coalesce(cost_after + %(cost_after)s::double precision, cost_after, %(cost_after)s::double precision),
    first_time = least(first_time, %(first_changed)s::timestamptz),
    last_time = greatest(last_time, %(last_changed)s::timestamptz),
    cursor_time = %(last_time)s,
    cursor_id = %(last_id)s
WHERE change_id = %(change_id)s
RETURNING looked_at, changed_interactions;
