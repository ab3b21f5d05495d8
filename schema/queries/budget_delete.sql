-- budget_delete: forget a budget.
-- Parameters: name TEXT.
-- Result:     the count of rows is 1, or 0 where there is none of the name.
DELETE FROM budgets WHERE name = %(name)s;
