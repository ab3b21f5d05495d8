-- costs_of_more_calls: condition under which the computed costs of a run replace the stored ones: they are known, and
--             they cover at least as many calls.
-- Needs:  o: the stored row of token_cache_optimization; excluded: the computed one.
(
    excluded.original_cost IS NOT NULL
    AND (
        o.original_cost IS NULL
        OR excluded.total_interactions - excluded.unpriced_interactions >= o.total_interactions - o.unpriced_interactions
    )
)
