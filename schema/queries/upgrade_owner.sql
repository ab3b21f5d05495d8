-- upgrade_owner: Return the owner of llm_interactions, if it is not the current role.
-- Parameters: none.
-- Result:     owner, role TEXT; no row if they are the same.
SELECT r.rolname::text AS owner, current_user::text AS role
FROM pg_class AS c
JOIN pg_roles AS r ON r.oid = c.relowner
WHERE c.oid = to_regclass('llm_interactions') AND r.rolname <> current_user;
