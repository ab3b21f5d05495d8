-- run_figure_columns: the figures of a run in a list of runs, as they were stored when it ended. If is_stored is FALSE, they
--             are not valid, and runs_counted computes them from the calls between first_call and last_call.
-- Needs:  p: a row of query_run_summaries; o: of run_page_savings.
p.total_interactions, p.failed_interactions, p.total_prompt_tokens, p.total_completion_tokens, p.total_cached_tokens,
p.rated_cached_tokens::double precision / nullif(p.reported_prompt_tokens, 0) AS cache_hit_rate,
p.total_cost, o.cost_savings,
o.query_id IS NOT NULL AS is_stored, p.first_call_time AS first_call, p.last_call_time AS last_call
