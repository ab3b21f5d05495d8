-- alert_claim: Mark the change of an alert rule as notified, or as not notified after a failure.
-- Parameters: name TEXT, notified BOOLEAN.
-- Result:     the row count is 1 for the only watcher that may notify, else 0.
UPDATE alert_states SET notified = %(notified)s WHERE name = %(name)s AND notified <> %(notified)s;
