-- price_list_prune: Delete price lists, except the 50 newest, and rows of daily updates older than 30 days.
-- Parameters: none.
-- Result:     none.
DELETE FROM price_lists AS old
WHERE (old.data IS NULL AND old.fetched_at < now() - INTERVAL '30 days')
   OR (
       old.data IS NOT NULL
       AND old.list_id NOT IN (SELECT list_id FROM price_lists WHERE data IS NOT NULL ORDER BY list_id DESC LIMIT 50)
   );
