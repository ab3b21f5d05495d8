"""Keyed hashes of prompt segments: they show which prompts share a prefix, and contain no content."""

from .delta_codec import decode_run
from .hash_queue import Fingerprints
from .secret_key import key_facts
from .segments import Fingerprint, Segment

__all__ = [
    "Fingerprint",
    "Fingerprints",
    "Segment",
    "decode_run",
    "key_facts",
]
