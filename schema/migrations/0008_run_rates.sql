-- 0008 run_rates: what the hit rate of an ended run is made of, beside its totals.
-- Why:   the list of runs then needs no call of a run that has ended, however old it is.
-- Lock:  ACCESS EXCLUSIVE on query_run_summaries, for a moment; rows that are there are not rewritten.
--
-- reported_prompt_tokens: prompt tokens of the calls that reported their cache use; rated_cached_tokens: cached tokens of
-- the calls that report their prompt tokens, too. Both are set with the totals of a run that has ended. NULL: the totals,
-- if there are any, are somebody else's, or of an older release, and the calls are counted instead.
-- Who adds calls to an ended run around the library sets reported_prompt_tokens to NULL.

ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS reported_prompt_tokens BIGINT;
ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS rated_cached_tokens BIGINT;
