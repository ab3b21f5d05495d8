-- run_page_savings: joins the stored savings of a page of runs; NULL if the stored totals of a run are not valid.
-- Needs:  CTE page: rows of query_run_summaries.
FROM page AS p
LEFT JOIN token_cache_optimization AS o
  ON o.query_id = p.query_id AND o.run_id = p.run_id
 AND p.reported_prompt_tokens IS NOT NULL AND o.total_interactions = p.total_interactions
