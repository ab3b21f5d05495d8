-- latency_strata: Return latencies of cached and uncached calls, by groups of comparable calls.
-- Parameters: those of fragments/any_calls.sql.
-- Result:     one row per group: provider; model; streamed: whether it has a time to first token; band: floor(4 *
--             log2(prompt_tokens)); hit: 2 if at least half of the prompt was cached, 0 if nothing was, else 1; calls
--             BIGINT, prompt_tokens BIGINT; ttft_log, ttft_log2, duration_log, duration_log2: SUM of the natural
--             logarithm of the milliseconds, and of its square. Only successful calls with a duration that reported
--             their cache use.
-- Reads the raw table: the hourly aggregate has no latencies by length of prompt.
SELECT
    coalesce(provider, '') AS provider,
    model,
    time_to_first_token_ms IS NOT NULL AS streamed,
    floor(4 * ln(prompt_tokens::double precision) / ln(2::double precision))::integer AS band,
    CASE WHEN cached_tokens = 0 THEN 0 WHEN 2 * cached_tokens >= prompt_tokens THEN 2 ELSE 1 END AS hit,
    count(*) AS calls,
    sum(prompt_tokens)::bigint AS prompt_tokens,
    sum(ln(time_to_first_token_ms)) AS ttft_log,
    sum(ln(time_to_first_token_ms) ^ 2) AS ttft_log2,
    sum(ln(duration_ms)) AS duration_log,
    sum(ln(duration_ms) ^ 2) AS duration_log2
FROM llm_interactions
WHERE success AND prompt_tokens > 0 AND cached_tokens IS NOT NULL AND duration_ms > 0
  AND (time_to_first_token_ms IS NULL OR time_to_first_token_ms > 0)
  AND -- include: fragments/any_calls.sql
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, 5;
