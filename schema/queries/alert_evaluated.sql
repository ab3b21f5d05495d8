-- alert_evaluated: Store that some alert rules were evaluated.
-- Parameters: names TEXT[]; valid_for INTERVAL: the next evaluation follows within this time.
-- Result:     none.
UPDATE alert_states SET valid_until = now() + %(valid_for)s::interval WHERE name = ANY(%(names)s::text[]);
