-- price_list_insert: Store a price list; all processes use it from then on.
-- Parameters: origin, sha8, data TEXT.
-- Result:     list_id, fetched_at.
INSERT INTO price_lists (origin, sha8, data)
VALUES (%(origin)s, %(sha8)s, %(data)s)
RETURNING list_id, fetched_at;
