"""Estimate the tokens of each prefix of a prompt. Pure.

Tokens of a prefix are not stored. They are known if an earlier prompt ended there: that call's ``prompt_tokens``.
Between such points they are interpolated by the segments' characters, at the rate (tokens per character, and tokens per
segment for its role) at which prompts of this model grew from call to call. The tokens of an image or a reference are
not known from its characters, so it is assigned the tokens that remain after the texts around it.

Each estimate has a lower bound, and a miss is reported only if the lower bound proves it. The bound is close to the
estimate where the rate fits the growth of the prompts well. It is far from it where the prompts do not determine the
rate, for example because all of them have the same size. A read proves that the shared prefix has at least the tokens
that were read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from operator import itemgetter
from statistics import median_low
from typing import NamedTuple

from .cache_rules import CacheRule
from .chains import Call

_TOKENS_PER_CHARACTER = 0.25
_UNKNOWN_SIZES = frozenset(("media", "compaction", "previous_response", "conversation", "prompt_template"))
_LEAST_ERROR, _UNCERTAIN_ERROR, _LARGEST_ERROR = 0.03, 0.2, 0.5
_LEAST_SAMPLES = 4
_SINGULAR = 0.02
_PREAMBLE_TOKENS = 16  # tokens at the end of a prompt that the next prompt may not repeat
_COMPACTED = 0.95

Known = dict[str, dict[int, int]]
"""The tokens of whole prompts, by model and by the hash of the prompt."""


class _Rate(NamedTuple):
    """Tokens per character and per segment; ``error`` is the share by which a count may be wrong."""

    per_character: float
    per_segment: float
    error: float


def count_tokens(calls: Sequence[Call]) -> None:
    """Set ``ends`` and ``low`` of each call that has a fingerprint and reported its tokens."""
    known: Known = defaultdict(dict)
    for call in calls:
        tokens = call.row["prompt_tokens"]
        if call.chain and tokens is not None:
            of_model, whole = known[call.row["model"]], call.chain[-1]
            of_model[whole] = min(tokens, of_model.get(whole, tokens))
    rates = _rates(calls, known)
    for call in calls:
        if call.chain and call.row["prompt_tokens"] is not None:
            _interpolate(call, known[call.row["model"]], rates[call.row["model"]])
    _apply_reads(calls, known)
    _apply_least_reads(calls)


def _apply_reads(calls: Sequence[Call], known: Known) -> None:
    """Raise the lower bounds of prefixes to the tokens that were read from them.

    A read that exceeds a whole prompt tells nothing about it: the prompts that continue it begin alike after it.
    """
    seen: set[int] = set()
    reads: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        cached = call.row["cached_tokens"]
        if cached and call.ends:
            index = next((i for i in range(len(call.chain) - 1, -1, -1) if call.chain[i] in seen), -1)
            # A read can exceed the shared segments, because the texts after them may begin alike.
            if index >= 0 and call.low[index] + _PREAMBLE_TOKENS < cached <= 2 * call.ends[index] - call.low[index]:
                model, prefix = call.row["model"], call.chain[index]
                if cached <= known[model].get(prefix, cached):
                    reads[model][prefix].append(cached)
        seen.update(call.chain)
    # Two texts after a prefix may begin alike by chance, and a provider may read less than it could: neither is usual.
    floors = {
        model: {prefix: median_low(found) for prefix, found in of_model.items()} for model, of_model in reads.items()
    }
    for call in calls:
        of_model = floors.get(call.row["model"])
        if of_model and call.ends and not of_model.keys().isdisjoint(call.chain):
            _raise(call, of_model)


def _raise(call: Call, floors: Mapping[int, int]) -> None:
    """Raise the lower bounds of a call to the tokens that were read from its prefixes."""
    floor = 0
    for index, prefix in enumerate(call.chain):
        floor = max(floor, floors.get(prefix, 0))
        if floor > call.low[index]:
            call.low[index] = min(floor, call.row["prompt_tokens"])
            call.ends[index] = max(call.ends[index], call.low[index])


def _apply_least_reads(calls: Sequence[Call]) -> None:
    """Lower the largest possible minimum of each model to the fewest tokens that were read from it."""
    least: dict[tuple[str, str], tuple[int, CacheRule]] = {}
    for call in calls:
        if cached := call.row["cached_tokens"]:
            key = (call.rule.name, call.row["model"])
            least[key] = min((cached, call.rule), least.get(key, (cached, call.rule)), key=itemgetter(0))
    rules = {key: rule.with_read(tokens) for key, (tokens, rule) in least.items()}
    for call in calls:
        call.rule = rules.get((call.rule.name, call.row["model"]), call.rule)


def _rates(calls: Sequence[Call], known: Known) -> dict[str, _Rate]:
    """Fit the rate of each model: least squares over the growth of its prompts."""
    samples: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    whole: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for call in calls:
        tokens, model = call.row["prompt_tokens"], call.row["model"]
        if not call.chain or tokens is None:
            continue
        unknown = any(segment.kind in _UNKNOWN_SIZES for segment in call.segments)
        totals = whole[model]
        if not unknown:
            totals[0] += tokens
            totals[1] += sum([segment.size for segment in call.segments])
        of_model, chain = known[model], call.chain
        begin = next((i for i in range(len(chain) - 2, -1, -1) if chain[i] in of_model), -1)
        new = call.segments[begin + 1 :]
        if unknown and any(segment.kind in _UNKNOWN_SIZES for segment in new):
            continue
        grown = float(tokens - (of_model[chain[begin]] if begin >= 0 else 0))
        size = float(sum([segment.size for segment in new]))
        if grown > 0 and size:
            samples[model].append((size, float(sum([not segment.continues for segment in new])), grown))
    return {model: _fit(samples[model], totals) for model, totals in whole.items()}


def _fit(samples: Sequence[tuple[float, float, float]], totals: Sequence[float]) -> _Rate:
    if not samples:
        plain = totals[0] / totals[1] if totals[1] else _TOKENS_PER_CHARACTER
        return _Rate(plain, 0.0, _UNCERTAIN_ERROR)
    xx = sum([size * size for size, _, _ in samples])
    xy = sum([size * count for size, count, _ in samples])
    yy = sum([count * count for _, count, _ in samples])
    xz = sum([size * grown for size, _, grown in samples])
    yz = sum([count * grown for _, count, grown in samples])
    zz = sum([grown * grown for _, _, grown in samples])
    determinant = xx * yy - xy * xy
    if len(samples) >= _LEAST_SAMPLES and determinant > _SINGULAR * xx * yy:
        per_character, per_segment = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
        if per_character > 0 and per_segment >= 0:
            rest = zz - per_character * xz - per_segment * yz
            return _Rate(per_character, per_segment, _error(rest, zz, _LEAST_ERROR))
    per_character = xz / xx
    return _Rate(per_character, 0.0, _error(zz - per_character * xz, zz, _UNCERTAIN_ERROR))


def _error(residual: float, squares: float, least: float) -> float:
    return min(_LARGEST_ERROR, max(least, 2 * sqrt(max(0.0, residual) / squares)))


def _interpolate(call: Call, known: Mapping[int, int], rate: _Rate) -> None:
    """Interpolate the tokens up to each segment's end between the known points."""
    count, whole = len(call.chain), call.row["prompt_tokens"]
    points = [(-1, 0.0)]
    longest = 0
    found = [(index, known[chain]) for index, chain in enumerate(call.chain[:-1]) if chain in known]
    for index, tokens in (*found, (count - 1, whole)):
        longest = max(longest, tokens)
        if tokens >= points[-1][1]:
            points.append((index, float(tokens)))
    call.is_compacted = longest * _COMPACTED > whole + _PREAMBLE_TOKENS
    if points[-1][0] < count - 1:  # the provider counted more tokens for a prefix than for the whole prompt
        points = [(-1, 0.0), (count - 1, float(whole))]
    call.ends, call.low = [0.0] * count, [0.0] * count
    for (begin, low), (end, high) in pairwise(points):
        _fill(call, begin, end, low, high, rate)


def _fill(call: Call, begin: int, end: int, low: float, high: float, rate: _Rate) -> None:
    """Fill in the segments after one known point, up to the next."""
    if end == begin + 1:
        call.ends[end], call.low[end] = high, high - _PREAMBLE_TOKENS
        return
    segments = call.segments[begin + 1 : end + 1]
    per_character, per_segment, error = rate
    weights = [
        0.0 if kind in _UNKNOWN_SIZES else per_character * size + (0.0 if continues else per_segment) or 1e-9
        for kind, _, size, _, _, continues in segments
    ]
    if 0.0 in weights:
        _fill_around_unknown(call, begin, low, high, weights, max(error, _UNCERTAIN_ERROR))
    else:
        span, passed = high - low, 0.0
        scale = span / sum(weights)
        ends, lows = call.ends, call.low
        for index, weight in enumerate(weights, begin + 1):
            passed += weight * scale
            left = span - passed
            ends[index] = low + passed
            lows[index] = low + passed - error * (passed if passed < left else left) - _PREAMBLE_TOKENS
    call.ends[end], call.low[end] = high, high - _PREAMBLE_TOKENS


def _fill_around_unknown(
    call: Call, begin: int, low: float, high: float, weights: Sequence[float], error: float
) -> None:
    """Fill in segments, some with an unknown size (weight 0); these share the tokens that remain after the texts."""
    span, texts, others = high - low, sum(weights), weights.count(0.0)
    scale = min(1.0, span / texts) if texts else 0.0
    share = (span - texts * scale) / others
    passed = uncertain = 0.0
    for offset, weight in enumerate(weights):
        passed += weight * scale if weight else share
        uncertain += 0.0 if weight else share
        left = span - passed
        # After an image, all of its tokens are uncertain, unless only text follows.
        after = left if 0.0 in weights[offset + 1 :] else error * left
        doubt = min(error * (passed - uncertain) + uncertain, after)
        call.ends[begin + 1 + offset] = low + passed
        call.low[begin + 1 + offset] = max(low, low + passed - doubt) - _PREAMBLE_TOKENS
