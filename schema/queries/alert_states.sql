-- alert_states: Return the states of alert rules.
-- Parameters: names TEXT[]: only these rules; NULL for all.
-- Result:     name, firing, value, reason, changed_at, notified: see migrations/0001. The firing ones first, the newest
--             change first.
SELECT name, firing, value, reason, changed_at, notified FROM alert_states WHERE %(names)s::text[] IS NULL OR name = ANY(%(names)s::text[])
ORDER BY firing DESC, changed_at DESC, name;
