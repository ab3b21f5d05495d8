"""A loopback HTTP endpoint that speaks OpenAI's API and caches prompts by OpenAI's published rules.

The demo, the examples and the tests use it to run the real OpenAI SDK offline over real HTTP. It simulates the *rules*
only: it has no model, and its own tokenizer makes token counts that can be computed by hand.

**Tokens.** A prompt is a list of segments, in the order in which OpenAI renders them: each tool, the output schema,
the instructions, each message. A segment has 4 tokens for its role and, for each of its parts (a text, a name, a
call's id), one token for every 4 characters, rounded up; an image or a file has 85. ``prompt_tokens`` is the sum over
the segments, and the leading messages that two prompts share form exactly a common token prefix.

**Caching**, models before GPT-5.6: a prompt of at least 1,024 tokens is cached in steps of 128. A later prompt reads
the longest sequence of steps that it repeats exactly, so ``cached_tokens`` is 0, 1024, 1152, … A repeated prompt may
be read in full: OpenAI publishes no rule that excludes its last step, and with such a rule a prompt of 1,024 tokens
could never hit. An entry expires ``ttl_s`` after its last use (``prompt_cache_retention="24h"``: after 24 hours).

From GPT-5.6 on: prompts are cached exact to the token, but only up to a breakpoint, which is the end of a user or
tool message (implicit) or of a block marked ``prompt_cache_breakpoint``. ``cache_write_tokens`` is reported. An entry
expires 30 minutes after its last use.

A cache belongs to one organization (here: API key), one model and one ``prompt_cache_key``. OpenAI uses the key for
routing; here a different key always means a different machine. A prompt is looked up and stored when its request
arrives.

Not simulated: eviction under load, the overflow above about 15 requests per minute, minimums above 1,024 tokens, and
responses stored by the server (``previous_response_id`` is never found).

Source: https://developers.openai.com/api/docs/guides/prompt-caching (a stored copy, read 2026-11-23);
https://github.com/openai/openai-cookbook/blob/main/examples/Prompt_Caching_201.ipynb (tools and schemas come
before the instructions; read 2026-11-23); ``PromptCacheOptions`` of openai 3.54 (80 breakpoints considered).
"""

from .endpoint import SimulatedEndpoint
from .prompt import MINIMUM_TOKENS, STEP_TOKENS
from .request import Reply, SimulatedRequest

__all__ = [
    "MINIMUM_TOKENS",
    "STEP_TOKENS",
    "Reply",
    "SimulatedEndpoint",
    "SimulatedRequest",
]
