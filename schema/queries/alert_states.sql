-- alert_states: Return the states of alert rules.
-- Parameters: names TEXT[].
-- Result:     name, firing, value, reason, changed_at, notified: see migrations/0001.
SELECT name, firing, value, reason, changed_at, notified FROM alert_states WHERE name = ANY(%(names)s::text[]);
