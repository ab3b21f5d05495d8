-- alert_change: Store that an alert rule began or stopped firing; does nothing if another watcher stored it already.
-- Parameters: name TEXT, firing BOOLEAN, value DOUBLE PRECISION, reason TEXT.
-- Result:     none. A rule that is new and does not fire has nothing to notify of.
INSERT INTO alert_states AS s (name, firing, value, reason, notified)
VALUES (%(name)s, %(firing)s, %(value)s, %(reason)s, NOT %(firing)s::boolean)
ON CONFLICT (name) DO UPDATE SET
    firing = excluded.firing, value = excluded.value, reason = excluded.reason, changed_at = excluded.changed_at, notified = FALSE
WHERE s.firing <> excluded.firing;
