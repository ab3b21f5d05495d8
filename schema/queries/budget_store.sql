-- budget_store: Create a budget or change it.
-- Parameters: name, period, model TEXT; amount_usd DOUBLE PRECISION.
-- Result:     none.
INSERT INTO budgets (name, amount_usd, period, model, changed_at)
VALUES (%(name)s, %(amount_usd)s, %(period)s, %(model)s, now())
ON CONFLICT (name) DO UPDATE SET
    amount_usd = excluded.amount_usd, period = excluded.period, model = excluded.model, changed_at = excluded.changed_at;
