"""A simulator of the providers' prompt caches, to score explanations: verdicts, lost tokens, and advice.

It is kept apart from ``analytics/explain`` in this way. Its rules (:mod:`.provider`) are written in Python from the
providers' documents and are not read from ``cache_rules.yaml``. It counts and compares tokens, while explain sees sizes
and hashes of segments. The true cause of a miss is the fault that a scenario injects, and its true cost is measured:
the same request without the fault is sent to a copy of the cache. Advice is followed: the scenario is repeated with the
change that the advice asks for, and the difference of the bills is compared with the claim. It shares with the library
only what produces a row from a request (the fingerprint and the request's options).

Sources, read 2026-12-01: https://developers.openai.com/api/docs/guides/prompt-caching and its page ``diagnostics``;
https://platform.claude.com/docs/en/build-with-claude/prompt-caching; https://ai.google.dev/gemini-api/docs/caching;
https://api-docs.deepseek.com/guides/kv_cache;
https://docs.x.ai/developers/advanced-api-usage/prompt-caching/best-practices.
"""
