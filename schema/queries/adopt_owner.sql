-- adopt_owner: whose the table of calls is, where new tables would be somebody else's.
-- Parameters: none.
-- Result:     owner, role TEXT; no row where they are the same.
SELECT r.rolname::text AS owner, current_user::text AS role
FROM pg_class AS c
JOIN pg_roles AS r ON r.oid = c.relowner
WHERE c.oid = to_regclass('llm_interactions') AND r.rolname <> current_user;
