"""Advice against cache misses: rules over the verdicts of a run, each with the money that following it saves. Pure.

This module covers prompts and settings; :mod:`.cache_advice` covers keys, lifetimes, breakpoints and writes. A rule
claims only net savings: the cost of the action is subtracted, and an action that saves nothing is not advised.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from .advice_item import LEAST_SHARE, CacheAdvice, advice_item, priced, read_price, usd_lost, usd_moved
from .cache_advice import CACHE_RULES
from .chains import IMAGES, INSTRUCTIONS, JSON_KINDS, CacheLocation, Call
from .divergence import segment_words
from .sentences import SETTING_WORDS
from .verdicts import JudgedCall

__all__ = ["CacheAdvice", "advise", "usd_lost"]

_FEWEST_DROPS = 2
_FEWEST_IMAGE_CHANGES = 2  # the first image invalidates the cached messages once, which cannot be avoided
_LEAST_DROP_SHARE = 0.4  # smaller savings are uncertain, because some providers read in larger steps

_Agent = tuple[CacheLocation, tuple[bytes, ...] | None]


def advise(judged: Sequence[JudgedCall]) -> list[CacheAdvice]:
    """Return the recommendations, the one with most at stake first."""
    found = [advice for rule in _RULES for advice in rule(judged) if advice["tokens_at_stake"] > 0]
    found = [advice for advice in found if advice["usd_at_stake"] is None or advice["usd_at_stake"] > 0]
    return sorted(found, key=lambda each: (-(each["usd_at_stake"] or 0.0), -each["tokens_at_stake"], each["rule"]))


def _changed(judged: Iterable[JudgedCall], *changes: str) -> list[JudgedCall]:
    return [
        each
        for each in judged
        if each.verdict == "prefix_changed" and each.divergence is not None and each.divergence.change in changes
    ]


def _by_segment(judged: Iterable[JudgedCall]) -> dict[str, list[JudgedCall]]:
    found: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        if each.divergence is not None:
            found[segment_words(each.divergence.part)].append(each)
    return found


def _kind(judged: JudgedCall) -> str:
    return "" if judged.divergence is None else judged.divergence.part.kind


def _move_changing_part(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    texts = [each for each in _changed(judged, "edited", "added") if _kind(each) not in JSON_KINDS]
    for segment, about in _by_segment(texts).items():
        kind = _kind(about[0])
        what = f"the {segment}" if kind in INSTRUCTIONS else segment
        often, verb = ("changes from call to call", "is") if len(about) > 1 else ("changed in one call", "was")
        if about[0].call.rule.matching == "units":  # the second prompt with a beginning does not read it yet
            about = about[1:] or about
        if kind == "media":
            action = "Send the same URL or file each time: a signed URL is a different prompt"
        elif kind in INSTRUCTIONS:
            action = "Move what varies (a date, an id, retrieved text) into the last message"
        else:
            action = "Append new messages instead of changing earlier ones"
        words = f"{what} {often}, so nothing after the change {verb} read from the cache. {action}"
        yield advice_item("move_changing_part", words, about, segment)


def _hold_tools(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in _changed(judged, "edited", "added", "shortened") if _kind(each) == "tool_definition"]
    if about:
        words = (
            "the tools differ between calls with the same beginning, so the whole prompt is billed in full. Send the "
            "same tools in every call; limit their use with tool_choice"
        )
        costs = [usd_lost(each) or 0.0 for each in priced(about)]
        usd = math.fsum(costs) - _further_tools_usd(judged, about) if costs else None
        if usd is None or usd >= LEAST_SHARE * math.fsum(costs):
            yield advice_item("hold_tools_constant", words, about, "tools", usd)


def _further_tools_usd(judged: Iterable[JudgedCall], about: Iterable[JudgedCall]) -> float:
    """Return the cost of sending all tools in every call with the same system prompt; the added ones are read.

    A tool that occurs in only one call is not added: it is a version of another tool whose text changes.
    """
    changed = {_agent(each.call) for each in about}
    calls = [each for each in priced(judged) if each.call.tools and _agent(each.call) in changed]
    counts = Counter([(_agent(each.call), tool) for each in calls for tool in set(each.call.tools)])
    sizes = [_tool_tokens(each.call) for each in calls]
    tokens = {(_agent(each.call), tool): size for each, tools in zip(calls, sizes, strict=True) for tool, size in tools}
    whole: Counter[_Agent] = Counter()
    for tool, times in counts.items():
        if times > 1:
            whole[tool[0]] += int(tokens.get(tool, 0.0))
    usd = 0.0
    for each, tools in zip(calls, sizes, strict=True):
        further = whole[_agent(each.call)] - sum([size for _, size in tools])
        usd += max(0.0, further) * read_price(each) / 1000
    return usd


def _agent(call: Call) -> _Agent:
    """Return the cache and the system prompt of a call."""
    return call.location, None if call.instructions is None else call.instructions.content


def _tool_tokens(call: Call) -> list[tuple[bytes, float]]:
    """Return the content and the tokens of each tool."""
    ends = [0.0, *call.ends]
    return [(tool, ends[number + 1] - ends[number]) for number, tool in enumerate(call.tools[: len(call.ends)])]


def _hold_settings(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    found: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        if each.verdict == "settings_changed" and each.setting is not None:
            found[each.setting].append(each)
    if len(found.get(IMAGES, ())) < _FEWEST_IMAGE_CHANGES:
        found.pop(IMAGES, None)
    for setting, about in found.items():
        about, usd = _held(judged, about)
        if not about:
            continue
        name = SETTING_WORDS.get(setting, setting)
        words = f"{name} differs between calls with the same beginning. Keep the value of the first call"
        if setting == IMAGES:
            words = (
                "only some calls with the same beginning contain images, and the messages before the change are billed "
                "in full. Send calls with images in a separate conversation"
            )
        yield advice_item("hold_setting_constant", words, about, setting.replace("_", " "), usd)


def _held(judged: Sequence[JudgedCall], about: Sequence[JudgedCall]) -> tuple[list[JudgedCall], float | None]:
    """Return the calls that save by using the model and settings of the first call with the same beginning.

    All later calls with the beginning would use them, too. That can cost more than it saves, if the first model or
    service tier is more expensive. Also returns the saving in USD; None if no call has a price.
    """
    groups: dict[int | None, list[JudgedCall]] = defaultdict(list)
    for each in judged if about else ():
        groups[_beginning(each.call)].append(each)
    moved = {id(each) for each in about}
    kept: list[JudgedCall] = []
    total = None
    for calls in groups.values():
        of_group = [each for each in calls if id(each) in moved]
        usd = _held_usd(calls, of_group)
        if of_group and (usd is None or usd > 0):
            kept += of_group
            total = total if usd is None else (total or 0.0) + usd
    return kept, total


def _beginning(call: Call) -> int | None:
    """Return the hash of the prompt before the first user message; None without a fingerprint."""
    return call.chain[max(0, call.conversation_start - 1)] if call.chain else None


def _held_usd(calls: Iterable[JudgedCall], moved: Sequence[JudgedCall]) -> float | None:
    """Return the saving if all of the calls had the model and settings of the first; None if unpriced.

    Args:
        calls: The calls with one beginning.
        moved: Those of them that lost tokens, because they did not.
    """
    target = next((each.compared for each in moved if each.compared is not None), None)
    if target is None or target.row["prompt_token_price"] is None:
        return None
    lost = {id(each): each.lost for each in moved}
    costs = [
        usd_moved(each, target.row, lost.get(id(each), 0))
        for each in priced(calls)
        if id(each) in lost or each.call.location != target.location
    ]
    return math.fsum(costs) if costs else None


def _stop_reordering(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = _changed(judged, "reordered")
    tools = [each for each in about if _kind(each) == "tool_definition"]
    if tools:
        words = (
            "the tools, or the keys in their definitions, are in a different order from call to call. Sort them once "
            "and keep the order"
        )
        yield advice_item("stop_reordering", words, tools, "tools")
    messages = [each for each in about if _kind(each) != "tool_definition"]
    if messages:
        words = "the same messages are in a different order from call to call. Keep one order"
        yield advice_item("stop_reordering", words, messages, "messages")


def _drop_history_seldom(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Advise dropping more messages at once, less often. The cost of the longer prompts until then is subtracted."""
    about = [each for each in _changed(judged, "shortened") if _kind(each) not in JSON_KINDS]
    about = [each for each in about if each.call.lifetime.write_factor == 1]  # longer prompts would be written, too
    about = [each for each in about if each.call.row["prompt_token_price"] is not None and each.compared is not None]
    if len(about) < _FEWEST_DROPS:
        return
    lost = fmean([usd_lost(each) or 0.0 for each in about])
    kept = fmean([_tokens_dropped(each) * read_price(each) / 1000 for each in about])
    saved, calls = max((lost * (1 - 1 / calls) - kept * (calls - 1) / 2, calls) for calls in range(2, len(about) + 1))
    if saved < _LEAST_DROP_SHARE * lost:
        return
    words = (
        "messages are dropped from the middle of the history, and everything after them is billed in full. Drop "
        f"{calls} times as many at once, every {calls} calls"
    )
    made = advice_item("drop_history_seldom", words, about, usd=saved * len(about))
    yield {**made, "tokens_at_stake": int((1 - 1 / calls) * made["tokens_at_stake"])}


def _tokens_dropped(judged: JudgedCall) -> float:
    if judged.compared is None or judged.divergence is None:
        return 0.0
    return float(max(0.0, (judged.compared.row["prompt_tokens"] or 0) - judged.divergence.tokens))


def _stay_with_one_model(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.verdict == "model_changed" and each.compared is not None]
    about, usd = _held(judged, about)
    if about:
        names = sorted({str(call.row["model"]) for each in about for call in (each.call, each.compared) if call})
        words = (
            f"prompts with the same beginning go to several models ({', '.join(names)}), and each model has its own "
            "cache. Send all of them to the first model"
        )
        yield advice_item("stay_with_one_model", words, about, usd=usd)


_RULES: tuple[Callable[[Sequence[JudgedCall]], Iterable[CacheAdvice]], ...] = (
    _move_changing_part,
    _hold_tools,
    _hold_settings,
    _stop_reordering,
    _drop_history_seldom,
    _stay_with_one_model,
    *CACHE_RULES,
)
