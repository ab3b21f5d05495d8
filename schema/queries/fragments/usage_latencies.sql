-- usage_latencies: mean latencies in milliseconds of a group of usage parts.
-- Needs:  rows with the columns of usage_of_hours.
sum(duration_ms) / nullif(sum(timed_interactions), 0)::double precision AS avg_duration_ms,
sum(time_to_first_token_ms) / nullif(sum(streamed_interactions), 0)::double precision AS avg_time_to_first_token_ms
