-- budget_delete: Delete a budget.
-- Parameters: name TEXT.
-- Result:     the row count is 1, or 0 if there is no such budget.
DELETE FROM budgets WHERE name = %(name)s;
