"""Advice against cache misses: rules over the verdicts of a run, each with the money that following it saves. Pure.

This module covers prompts and settings; :mod:`.cache_advice` covers keys, lifetimes, breakpoints and writes. A rule
claims only what its action saves: what the action costs is subtracted, and an action that saves nothing is not advised.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from .advice_item import LEAST_SHARE, CacheAdvice, advice_item, read_price, usd_lost
from .cache_advice import CACHE_RULES
from .chains import INSTRUCTIONS, JSON_KINDS
from .divergence import segment_words
from .sentences import SETTING_WORDS
from .verdicts import JudgedCall

__all__ = ["CacheAdvice", "advise", "usd_lost"]

_FEWEST_DROPS = 2


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
        often = "changes from call to call" if len(about) > 1 else "changed in one call"
        if about[0].call.rule.matching == "units":  # the second prompt with a beginning does not read it yet
            about = about[1:] or about
        if kind == "media":
            action = "Send the same URL or file each time: a signed URL is a different prompt"
        elif kind in INSTRUCTIONS:
            action = "Move what varies (a date, an id, retrieved text) into the last message"
        else:
            action = "Append new messages instead of changing earlier ones"
        words = f"{what} {often}, so nothing after the change is read from the cache. {action}"
        yield advice_item("move_changing_part", words, about, segment)


def _hold_tools(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in _changed(judged, "edited", "added", "shortened") if _kind(each) == "tool_definition"]
    if about:
        words = (
            "the tools differ between calls with the same beginning, so the whole prompt is billed in full. Send the "
            "same tools in every call; limit their use with tool_choice"
        )
        yield advice_item("hold_tools_constant", words, about, "tools")


def _hold_settings(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    found: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        if each.verdict == "settings_changed" and each.setting is not None:
            found[each.setting].append(each)
    for setting, about in found.items():
        name = SETTING_WORDS.get(setting, setting)
        words = f"{name} differs between calls with the same beginning. Keep it the same within a conversation"
        yield advice_item("hold_setting_constant", words, about, setting.replace("_", " "))


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
    if saved < LEAST_SHARE * lost:
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
    if about:
        names = sorted({str(call.row["model"]) for each in about for call in (each.call, each.compared) if call})
        words = (
            f"conversations move between models ({', '.join(names)}), and each model has its own cache. Use one model "
            "per conversation"
        )
        yield advice_item("stay_with_one_model", words, about)


_RULES: tuple[Callable[[Sequence[JudgedCall]], Iterable[CacheAdvice]], ...] = (
    _move_changing_part,
    _hold_tools,
    _hold_settings,
    _stop_reordering,
    _drop_history_seldom,
    _stay_with_one_model,
    *CACHE_RULES,
)
