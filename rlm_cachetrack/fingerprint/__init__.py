"""Keyed hashes of prompt segments: they show which prompts share a prefix, and contain no content."""

from .delta_codec import FingerprintChain, decode_run
from .hash_queue import Fingerprints, HashedRequest
from .secret_key import key_facts
from .segment_codec import Segment
from .segments import CONTENT_BYTES, Fingerprint

__all__ = [
    "CONTENT_BYTES",
    "Fingerprint",
    "FingerprintChain",
    "Fingerprints",
    "HashedRequest",
    "Segment",
    "decode_run",
    "key_facts",
]
