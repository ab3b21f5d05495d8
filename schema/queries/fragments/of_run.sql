-- of_run: condition that selects the calls of one run.
-- Needs:  rows of llm_interactions.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, and those of call_time_bounds.
query_id = %(query_id)s AND run_id = %(run_id)s
  AND -- include: fragments/call_time_bounds.sql
