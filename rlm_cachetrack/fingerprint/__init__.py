"""Keyed hashes of prompt segments. They tell which prompts share a beginning and hold no content."""

from .delta_codec import decode_run
from .hash_queue import Fingerprints, key_facts
from .segments import Fingerprint, Segment

__all__ = [
    "Fingerprint",
    "Fingerprints",
    "Segment",
    "decode_run",
    "key_facts",
]
