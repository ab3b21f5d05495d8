-- budgets: the budgets, by name.
-- Parameters: none.
-- Result:     name TEXT, amount_usd, period TEXT (day, week, month), model TEXT or NULL for all, changed_at TIMESTAMPTZ.
SELECT name, amount_usd, period, model, changed_at FROM budgets ORDER BY name;
