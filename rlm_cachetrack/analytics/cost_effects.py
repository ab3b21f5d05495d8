"""Split a difference in cost into the effects of calls, prompt length, cache, completion and prices. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

_FACTORS = ("calls", "prompt length", "cache", "completion length", "prices")
_ROUNDING_USD = 1e-12


class ComparisonEffect(TypedDict):
    """A part of the difference between the costs of two runs, in USD; all parts add up to the difference.

    ``factor`` is ``calls`` (how many), ``prompt length``, ``cache`` (shares read and written), ``completion length``,
    ``prices``, or ``other`` (costs returned by the provider that no price explains). ``a`` and ``b`` are the factor
    itself on each side (calls per run, tokens per call, hit rate 0-1, USD per 1M uncached prompt tokens), None for
    ``other``.
    """

    factor: str
    effect: float
    a: float | None
    b: float | None


def cost_effects(
    a: Sequence[Sequence[Mapping[str, Any]]], b: Sequence[Sequence[Mapping[str, Any]]]
) -> list[ComparisonEffect] | None:
    """Split the difference between the mean costs of two groups of runs.

    The parts are Shapley values: the mean over all orders in which the factors can change, so no order is preferred.

    Source: L. S. Shapley, A value for n-person games, 1953; as used for index decomposition by Albrecht et al. 2002.

    Args:
        a: Runs, each a list of its iterations as :class:`~.iteration_rows.IterationRow`.
        b: The runs of the other side, in the same form.

    Returns:
        The largest effect first; None if a side has no priced call.
    """
    before, after = (_RunCost.mean((row for rows in side for row in rows), len(side)) for side in (a, b))
    if not before.calls or not after.calls:
        return None
    before, after = before.with_missing_prices(after), after.with_missing_prices(before)
    factors = [(before.factor(name), after.factor(name)) for name in _FACTORS]
    effects = dict.fromkeys(_FACTORS, 0.0)
    count = len(_FACTORS)
    for changed in itertools.product((0, 1), repeat=count):
        if all(changed):
            continue
        weight = math.factorial(sum(changed)) * math.factorial(count - 1 - sum(changed)) / math.factorial(count)
        for index in range(count):
            if not changed[index]:
                then = (*changed[:index], 1, *changed[index + 1 :])
                effects[_FACTORS[index]] += weight * (_cost(factors, then) - _cost(factors, changed))
    found: list[ComparisonEffect] = [
        {"factor": name, "effect": effects[name], "a": before.figure(name), "b": after.figure(name)}
        for name in _FACTORS
    ]
    other = after.other - before.other
    if abs(other) > _ROUNDING_USD:
        found.append({"factor": "other", "effect": other, "a": None, "b": None})
    return sorted(found, key=lambda effect: -abs(effect["effect"]))


def log_mean_effects(
    before: float, after: float, factors: Sequence[tuple[float | None, float | None]]
) -> list[float] | None:
    """Split the difference between two products among their factors, exactly and independently of their order.

    Source: B. W. Ang, "Decomposition analysis for policymaking in energy" (LMDI), Energy Policy 32 (2004).

    Args:
        before: The first product.
        after: The second product.
        factors: Each factor before and after.

    Returns:
        An effect per factor; they add up to ``after - before``. None if a product or factor is unknown or not positive.
    """
    if before <= 0 or after <= 0 or not all(one and other and min(one, other) > 0 for one, other in factors):
        return None
    ratio = after / before
    weight = before if ratio == 1 else (after - before) / math.log(ratio)
    return [weight * math.log((other or 1) / (one or 1)) for one, other in factors]


def _cost(factors: Sequence[tuple[tuple[float, ...], tuple[float, ...]]], which: Sequence[int]) -> float:
    """Compute the cost of a run with each factor taken from before (0) or after (1)."""
    (calls,), (prompt,), (read, written), (completion,), (at_prompt, at_read, at_write, at_completion) = (
        pair[choice] for pair, choice in zip(factors, which, strict=True)
    )
    price = (1 - read - written) * at_prompt + read * at_read + written * at_write
    return calls * (prompt * price + completion * at_completion)


@dataclass(frozen=True, slots=True)
class _RunCost:
    """The priced calls of a mean run.

    Attributes:
        calls: Priced calls.
        prompt, cached, written, completion: Their tokens.
        prices: USD per uncached, cached, written and completion token; None if a price is not known.
        other: USD of the cost that these prices do not explain.
    """

    calls: float
    prompt: float
    cached: float
    written: float
    completion: float
    prices: tuple[float | None, ...]
    other: float

    @classmethod
    def mean(cls, rows: Iterable[Mapping[str, Any]], runs: int) -> _RunCost:
        priced = [row for row in rows if row["priced_calls"]]

        def mean(name: str) -> float:
            return math.fsum(float(row[name]) for row in priced) / runs

        def price(cost: str, tokens: float, list_cost: str) -> float | None:
            """Return the price paid; if no such token was bought, the price that all prompt tokens would have had."""
            return mean(cost) / tokens if tokens else (mean(list_cost) / prompt if prompt else None)

        prompt, cached, written = mean("priced_prompt"), mean("priced_cached"), mean("priced_written")
        completion = mean("priced_completion")
        costs = ("cost_of_uncached", "cost_of_cached", "cost_of_written", "cost_of_completion")
        return cls(
            mean("priced_calls"),
            prompt,
            cached,
            written,
            completion,
            (
                price("cost_of_uncached", prompt - cached - written, "prompt_at_prompt"),
                price("cost_of_cached", cached, "prompt_at_cached"),
                price("cost_of_written", written, "prompt_at_write"),
                mean("cost_of_completion") / completion if completion else None,
            ),
            mean("total_cost") - math.fsum(map(mean, costs)),
        )

    def with_missing_prices(self, other: _RunCost) -> _RunCost:
        """Use the other side's price for tokens that this side never bought, so that they add no price difference."""
        prices = zip(self.prices, other.prices, strict=True)
        return replace(self, prices=tuple(theirs if ours is None else ours for ours, theirs in prices))

    def factor(self, name: str) -> tuple[float, ...]:
        if name == "calls":
            return (self.calls,)
        if name == "prompt length":
            return (self.prompt / self.calls,)
        if name == "cache":
            return (self.cached / self.prompt, self.written / self.prompt) if self.prompt else (0.0, 0.0)
        if name == "completion length":
            return (self.completion / self.calls,)
        return tuple(price or 0.0 for price in self.prices)

    def figure(self, name: str) -> float:
        """Return the factor as one number, in the unit that :class:`ComparisonEffect` documents."""
        return self.factor(name)[0] * (1e6 if name == "prices" else 1)
