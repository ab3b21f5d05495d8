-- 0006 budgets: on every node.
-- Why:   they are few, and asked for wherever a program connects.
-- Lock:  ACCESS EXCLUSIVE on budgets, for a moment.
-- Needs: Citus 12 or newer.

SELECT create_reference_table('budgets');

SELECT truncate_local_data_after_distributing_table('budgets');
