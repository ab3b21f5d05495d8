-- reprice_begin: Record the start of a re-pricing.
-- Parameters: pricing TEXT; since, until, model, query_id, unpriced, include_given as in
--             reprice_groups; rates JSONB as in reprice_difference;
--             total_interactions BIGINT: number of calls that it covers.
-- Result:     change_id BIGINT.
INSERT INTO price_changes (pricing, since, until, model, query_id, unpriced, include_given, rates, total_interactions)
VALUES (
    %(pricing)s, %(since)s, %(until)s, %(model)s, %(query_id)s, %(unpriced)s, %(include_given)s, %(rates)s::jsonb, %(total_interactions)s
)
RETURNING change_id;
