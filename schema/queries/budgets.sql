-- budgets: Return all budgets, by name.
-- Parameters: none.
-- Result:     name TEXT; amount_usd; period TEXT: day, week or month; model TEXT, NULL for all models; changed_at
--             TIMESTAMPTZ.
SELECT name, amount_usd, period, model, changed_at FROM budgets ORDER BY name;
