-- alert_states: Return the states of alert rules.
-- Parameters: names TEXT[]: only these rules; NULL for all that a watcher has evaluated in the last week.
-- Result:     name, firing, value, reason, changed_at, notified: see migrations/0001; is_current BOOLEAN: a watcher still
--             evaluates the rule. The firing ones first, the newest change first.
SELECT name, firing, value, reason, changed_at, notified, valid_until > now() AS is_current
FROM alert_states
WHERE CASE WHEN %(names)s::text[] IS NULL THEN valid_until > now() - INTERVAL '7 days' ELSE name = ANY(%(names)s::text[]) END
ORDER BY firing AND valid_until > now() DESC, changed_at DESC, name;
