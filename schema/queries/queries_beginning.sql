-- queries_beginning: Return the ids of the queries that begin with a text.
-- Parameters: beginning TEXT; limit BIGINT.
-- Result:     query_id TEXT, in alphabetical order.
SELECT query_id
FROM query_run_summaries
WHERE starts_with(query_id, %(beginning)s::text)
GROUP BY query_id
ORDER BY query_id
LIMIT %(limit)s;
