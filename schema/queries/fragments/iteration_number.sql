-- iteration_number: the iteration of a call. Calls without one are numbered in order of time, after those that have one.
-- Needs:  rows of llm_interactions; WINDOW run: all calls of the run.
coalesce(
    iteration,
    coalesce(max(iteration) OVER run, 0)
        + count(*) FILTER (WHERE iteration IS NULL) OVER (run ORDER BY time, interaction_id)
)
