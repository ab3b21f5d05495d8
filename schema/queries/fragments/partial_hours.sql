-- partial_hours: condition that selects the calls before and after the whole hours of whole_hours.
-- Needs:  rows of llm_interactions.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; first_hour, last_hour TIMESTAMPTZ; NULL for
--             no bound.
(
    (
        time >= coalesce(%(since)s::timestamptz, '-infinity')
        AND time < coalesce(%(first_hour)s::timestamptz, '-infinity')
    ) OR (
        time >= coalesce(%(last_hour)s::timestamptz, 'infinity')
        AND time < coalesce(%(until)s::timestamptz, 'infinity')
    )
)
  -- Repeated without OR, so that TimescaleDB excludes the chunks of other days while planning.
  AND time >= CASE
      WHEN %(since)s::timestamptz < %(first_hour)s::timestamptz THEN %(since)s::timestamptz
      ELSE coalesce(%(last_hour)s::timestamptz, 'infinity')
  END
  AND time < coalesce(%(until)s::timestamptz, 'infinity')
