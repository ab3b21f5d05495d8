-- interactions_stored: Return how many of some calls are stored already.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[], times TIMESTAMPTZ[], ids UUID[]: their keys, element by element.
-- Result:     one row: interactions.
SELECT count(*) AS interactions
FROM llm_interactions AS i
JOIN (
    SELECT DISTINCT *
    FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[], %(times)s::timestamptz[], %(ids)s::uuid[])
) AS k (query_id, run_id, time, interaction_id)
  ON k.query_id = i.query_id AND k.run_id = i.run_id AND k.time = i.time AND k.interaction_id = i.interaction_id
-- The time range is repeated, so that days without any of these calls are not read.
WHERE i.time >= (SELECT min(t) FROM unnest(%(times)s::timestamptz[]) AS t)
  AND i.time <= (SELECT max(t) FROM unnest(%(times)s::timestamptz[]) AS t);
