-- call_time_bounds: condition that limits calls to the time range of their runs, so that other days are not read.
-- Needs:  rows of llm_interactions.
-- Parameters: first_call, last_call TIMESTAMPTZ: as run_records or runs_bounds returns them; NULL for no bound.
time >= coalesce(%(first_call)s::timestamptz, '-infinity')
AND time <= coalesce(%(last_call)s::timestamptz, 'infinity')
