-- run_page_columns: the columns of a page of runs.
-- Needs:  query_run_summaries AS s.
s.query_id, s.run_id, s.start_time, s.end_time, s.status, s.first_call_time, s.last_call_time, s.total_interactions,
s.failed_interactions, s.total_prompt_tokens, s.total_completion_tokens, s.total_cached_tokens, s.reported_prompt_tokens,
s.rated_cached_tokens, s.total_cost, s.metadata, s.tags, s.success, s.score, s.outcome_label
