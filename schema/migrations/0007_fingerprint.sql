-- 0007 fingerprint: what the prompt of a call was, without its content.
-- Why:   tells from history why tokens were not read from the cache: which part of the prompt differed from before.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions, for a moment; the rows that are there have none and are not rewritten.
--
-- A keyed hash and the size of each segment of the prompt, as a difference to an earlier call of the run; NULL where there
-- is none. Read by rlm_cachetrack only; nothing of the text can be had back without the secret, and with it only guesses
-- can be tested.

ALTER TABLE llm_interactions ADD COLUMN IF NOT EXISTS fingerprint BYTEA;
