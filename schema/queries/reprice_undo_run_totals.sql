-- reprice_undo_run_totals: Restore the stored costs of ended runs exactly. Runs with newer calls keep their new sums.
-- Parameters: change_id BIGINT.
-- Result:     none.
UPDATE query_run_summaries AS r SET total_cost = s.total_cost
FROM price_change_runs AS s
WHERE s.change_id = %(change_id)s AND r.query_id = s.query_id AND r.run_id = s.run_id
  AND r.total_interactions = s.total_interactions;
