-- run_page_search: condition for the filters that only the list of runs has.
-- Needs:  query_run_summaries AS s.
-- Parameters: search TEXT: part of the query_id, as a LIKE pattern without regard to case; outcome TEXT: succeeded,
--             failed, or not recorded (no success, score or label); NULL for any.
(%(search)s::text IS NULL OR s.query_id ILIKE %(search)s::text)
  AND (
      %(outcome)s::text IS NULL
      OR %(outcome)s::text = CASE
          WHEN s.success THEN 'succeeded'
          WHEN NOT s.success THEN 'failed'
          WHEN s.score IS NULL AND s.outcome_label IS NULL THEN 'not recorded'
      END
  )
