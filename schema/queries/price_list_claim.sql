-- price_list_claim: Begin the daily update, unless prices were updated or an update began within the last 20 hours.
-- Parameters: origin TEXT.
-- Result:     one row if the update is due: list_id. Two processes may both get one at the same moment; the second
--             finds the same data and stores nothing.
INSERT INTO price_lists (origin)
SELECT %(origin)s
WHERE NOT EXISTS (SELECT FROM price_lists WHERE fetched_at > now() - INTERVAL '20 hours')
RETURNING list_id;
