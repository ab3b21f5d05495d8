-- staging_runs: Insert the runs of stored calls that are not listed yet, and extend the time ranges of the others.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[], first_calls, last_calls TIMESTAMPTZ[]: the runs, element by
--             element, with the times of the first and last of their calls in this batch.
-- Result:     none. It writes every run, so fewer written rows mean that a trigger dropped some.
INSERT INTO query_run_summaries AS s (query_id, run_id, start_time, first_call_time, last_call_time)
SELECT query_id, run_id, least(run_id, first_call), first_call, last_call
FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[], %(first_calls)s::timestamptz[], %(last_calls)s::timestamptz[])
     AS c (query_id, run_id, first_call, last_call)
ORDER BY query_id, run_id
ON CONFLICT (query_id, run_id) DO UPDATE SET
    first_call_time = least(s.first_call_time, excluded.first_call_time),
    last_call_time = greatest(s.last_call_time, excluded.last_call_time);
