"""Records of calls, the column order of their rows, and the interface of a store.

Field names and units follow the OpenAI SDK: ``prompt_tokens`` counts all input, cached tokens included. None means "not
reported", 0 means "none". Prices are USD per 1,000 tokens, costs USD, durations milliseconds, datetimes aware.
"""

from rlm_cachetrack._process import new_id

from .batch import ProbingSink, RecordBatch, RecordSink, RunEnd, RunKey, RunOutcome, RunStart
from .checks import (
    MAX_TAG_LENGTH,
    MAX_TAG_NAME_LENGTH,
    MAX_TAGS,
    aware,
    check_count,
    checked_json,
    checked_outcome,
    checked_query_id,
    checked_tags,
    clean_text,
    merge_tags,
    shifted,
)
from .record import COLUMNS, INTEGER_COLUMNS, JSON_COLUMNS, LLMInteractionRecord, event_of_record

__all__ = [
    "COLUMNS",
    "INTEGER_COLUMNS",
    "JSON_COLUMNS",
    "MAX_TAGS",
    "MAX_TAG_LENGTH",
    "MAX_TAG_NAME_LENGTH",
    "LLMInteractionRecord",
    "ProbingSink",
    "RecordBatch",
    "RecordSink",
    "RunEnd",
    "RunKey",
    "RunOutcome",
    "RunStart",
    "aware",
    "check_count",
    "checked_json",
    "checked_outcome",
    "checked_query_id",
    "checked_tags",
    "clean_text",
    "event_of_record",
    "merge_tags",
    "new_id",
    "shifted",
]
