-- alert_evaluated: Store that some alert rules were evaluated, and their values.
-- Parameters: names, reasons TEXT[], new_values DOUBLE PRECISION[]: element by element; a value of NULL is not known, so the
--             stored one stays. valid_for INTERVAL: the next evaluation follows within this time.
-- Result:     none.
UPDATE alert_states AS s
SET value = coalesce(r.value, s.value), reason = CASE WHEN r.value IS NULL THEN s.reason ELSE r.reason END,
    valid_until = now() + %(valid_for)s::interval
FROM unnest(%(names)s::text[], %(new_values)s::double precision[], %(reasons)s::text[]) AS r (name, value, reason)
WHERE s.name = r.name;
