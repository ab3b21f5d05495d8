-- price_changes: Return the re-pricings, newest first.
-- Parameters: limit BIGINT.
-- Result:     change_id BIGINT; started_at, finished_at TIMESTAMPTZ; status, pricing TEXT; since, until TIMESTAMPTZ,
--             model, query_id TEXT: its filters; total_interactions, looked_at, changed_interactions BIGINT; batches
--             INTEGER; cost_before, cost_after: USD over the changed calls that had a price.
SELECT
    change_id, started_at, finished_at, status, pricing, since, until, model, query_id,
    total_interactions, looked_at, changed_interactions, batches, cost_before, cost_after
FROM price_changes
ORDER BY change_id DESC
LIMIT %(limit)s;
