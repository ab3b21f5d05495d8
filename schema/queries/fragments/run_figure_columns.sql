-- run_figure_columns: the figures of a run in a list of runs; a run without calls has zeros.
-- Needs:  CTE figures of run_figures, as f.
coalesce(f.total_interactions, 0) AS total_interactions, coalesce(f.failed_interactions, 0) AS failed_interactions,
coalesce(f.total_prompt_tokens, 0) AS total_prompt_tokens,
coalesce(f.total_completion_tokens, 0) AS total_completion_tokens,
coalesce(f.total_cached_tokens, 0) AS total_cached_tokens, f.cache_hit_rate, f.total_cost, f.cost_savings
