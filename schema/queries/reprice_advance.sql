-- reprice_advance: note that a batch is done.
-- Parameters: change_id BIGINT; interactions BIGINT: how many calls it looked at; last_time TIMESTAMPTZ, last_id UUID: the
--             last of them.
-- Result:     one row: looked_at, changed_interactions BIGINT.
UPDATE price_changes AS p SET
    looked_at = p.looked_at + %(interactions)s,
    changed_interactions = p.changed_interactions + s.changed,
    batches = p.batches + 1,
    cost_before = coalesce(p.cost_before + s.cost_before, p.cost_before, s.cost_before),
    cost_after = coalesce(p.cost_after + s.cost_after, p.cost_after, s.cost_after),
    first_time = least(p.first_time, s.first_time),
    last_time = greatest(p.last_time, s.last_time),
    cursor_time = %(last_time)s,
    cursor_id = %(last_id)s
FROM (
    SELECT
        count(*) AS changed, sum(total_cost) AS cost_before, sum(new_total) AS cost_after,
        min(time) AS first_time, max(time) AS last_time
    FROM rlm_cachetrack_repriced
) AS s
WHERE p.change_id = %(change_id)s
RETURNING p.looked_at, p.changed_interactions;
