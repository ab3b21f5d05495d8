-- price_list_newest: Return the price list in use.
-- Parameters: known BIGINT: a list_id that the caller has already; NULL for none.
-- Result:     no row or one: list_id, fetched_at, origin, sha8; data TEXT, NULL if the list is the known one.
SELECT
    list_id, fetched_at, origin, sha8,
    CASE WHEN list_id IS DISTINCT FROM %(known)s::bigint THEN data END AS data
FROM price_lists
WHERE data IS NOT NULL
ORDER BY list_id DESC
LIMIT 1;
