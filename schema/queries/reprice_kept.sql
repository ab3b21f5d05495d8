-- reprice_kept: Return the number of calls that a re-pricing does not change, because their prices were given by hand.
-- Parameters: those of fragments/repriceable.sql.
-- Result:     one row: interactions BIGINT.
-- Without a bound it reads the raw table.
SELECT count(*) AS interactions
FROM llm_interactions
WHERE -- include: fragments/call_filters.sql
  AND (NOT %(unpriced)s::boolean OR (total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)))
  AND NOT (%(include_given)s::boolean OR -- include: fragments/listed_price.sql
  );
