"""Compute the cost of a call that has more components than the four standard ones, and list them as charges.

The four standard components are priced by :func:`~.costs.amounts`; the components here are subtracted from their tokens
and get a charge each. The names of components are those of :class:`~.rates.Rates`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from rlm_cachetrack.usage import STANDARD_SPEED, UNKNOWN_WINDOW

from .costs import Cost, Prices, original_for
from .rates import CACHE_WRITES, MODALITIES, REQUEST, TOKEN_ITEMS, UNITS, Rates

if TYPE_CHECKING:
    from rlm_cachetrack.usage import TokenUsage

IMAGE_GENERATION = "image_generation"
SVG_GENERATION = "svg_generation"
MODEL_TOOLS = (IMAGE_GENERATION, SVG_GENERATION)
"""Tools that call another model; its tokens have that model's prices."""
# Billed separately, by container time, by stored bytes or by kind of tool. No response contains these quantities.
# Sources: https://developers.openai.com/api/docs/pricing (Tools: Containers, File search storage); 2026-12-01;
# https://platform.claude.com/docs/en/about-claude/pricing (Code execution tool); https://docs.x.ai/developers/models
# (Tool invocation costs); 2026-12-02.
_NOT_KNOWABLE = {
    "code_interpreter": "code_interpreter",
    "shell": "hosted_shell",
    "code_execution": "code_execution",
    "server_side_tools": "server_side_tools",
}
_STORAGE = "vector_store_storage"

_LABELS = {
    "cache_write_1h": "cache writes with 1-hour retention",
    "cache_write_12h": "cache writes with 12-hour retention",
    REQUEST: "a request",
}
_PARTS = {"prompt": "input", "cached": "cached input", "completion": "output"}


class Charge(TypedDict):
    """One component of a cost other than the four standard ones; ``amount`` is ``quantity`` times ``price``, in USD."""

    item: str
    quantity: float
    unit: str
    price: float
    amount: float


class Facts(NamedTuple):
    """The facts other than tokens and model that a cost depends on.

    Attributes:
        tools: Billed uses by tool; for ``image_generation`` a mapping with its tokens and its ``model``.
        options: The ``request_options`` of the call, of which ``region``, ``completion_window``, ``speed`` and
            ``search_context_size`` have a price.
        image_rates: The prices of the model that generated images; None: not known.
        svg_rates: The prices of the model that wrote an SVG; None: not known.
    """

    tools: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None
    image_rates: Rates | None = None
    svg_rates: Rates | None = None


WINDOW_DISCOUNT = "completion_window_discount"
"""In ``cost_excludes``: the discount of a completion window is unknown, and the cost does not include it."""

NOT_REPORTED = "the response reported no token usage"


def cost_of(usage: TokenUsage, rates: Rates, facts: Facts, model: str) -> Cost:
    """Return the cost of a call at listed prices; a total that the provider returned comes first.

    Args:
        usage: The tokens of the call.
        rates: The prices of the model, for the size of the prompt.
        facts: Tools and options of the call.
        model: The name of the model, for ``unpriced_reason``.
    """
    factor = factor_of(rates, facts.options) if facts.options else 1.0
    windows = rates.windows
    if factor is None:
        unknown = (
            f"{name} {value}" for name, value, known in _choices(rates, facts.options or {}) if value not in known
        )
        cost = Cost(unpriced_reason=f"no price for {next(unknown)} of {model}")
    else:
        if factor != 1.0:
            rates = rates.times(factor)
        cost = Cost(*rates.prices, price_source=rates.source, unpriced_reason=NOT_REPORTED)
        if rates.is_free:
            cost = cost._replace(total_cost=0.0, original_cost=0.0, unpriced_reason=None)
        if usage.prompt_tokens is not None or has_units(usage):
            cost = bill(usage, rates.prices, rates.extras, facts, model)._replace(price_source=rates.source)
            if windows and (facts.options or {}).get("completion_window") == UNKNOWN_WINDOW:
                cost = cost._replace(cost_excludes=[*(cost.cost_excludes or ()), WINDOW_DISCOUNT])
    if (returned := usage.provider_cost_usd) is None:
        return cost
    original = original_for(returned, cost.total_cost, cost.original_cost)
    return cost._replace(
        total_cost=returned,
        original_cost=original,
        price_source="provider",
        charges=None,  # the provider's total includes them, at prices that only the provider knows
        unpriced_reason=None,
        cost_excludes=None,
    )


def image_model(tools: Mapping[str, Any] | None, tool: str = IMAGE_GENERATION) -> str | None:
    """Return the model that generated images, or an SVG, in a call; None if there is none, or it is not known."""
    used = tools.get(tool) if tools else None
    model = used.get("model") if isinstance(used, Mapping) else None
    return model if isinstance(model, str) else None


def bill(usage: TokenUsage, prices: Prices, extras: Mapping[str, float], facts: Facts, model: str) -> Cost:
    """Return the cost of a call with all of its components.

    ``total_cost`` and ``original_cost`` are None if input is not reported, or if a component has no price, which
    ``unpriced_reason`` then names.

    Args:
        usage: The tokens of the call, or its other units.
        prices: The four standard prices; None where unknown.
        extras: The prices of further components, as in :class:`~.rates.Rates`.
        facts: Tools and options of the call.
        model: The name of the model, for ``unpriced_reason``.
    """
    invoice = _Invoice(usage, prices, extras)
    if not invoice.is_metered:
        invoice.add_modalities()
        invoice.add_writes()
        invoice.add_further_tokens()
    invoice.add_units()
    invoice.add_tools(facts)
    total, original = invoice.totals()
    reason = None
    if invoice.gaps:
        reason = f"no price for {' and '.join(dict.fromkeys(invoice.gaps))} of {model}"
    return Cost(
        *prices,
        total_cost=total,
        original_cost=original,
        charges=invoice.charges or None,
        unpriced_reason=reason,
        cost_excludes=invoice.excludes or None,
    )


class _Invoice:
    """The components of one call: tokens left for the four standard prices, charges, and gaps in the prices."""

    def __init__(self, usage: TokenUsage, prices: Prices, extras: Mapping[str, float]) -> None:
        self.prices = prices
        self.extras = extras
        self.details = usage.details or {}
        self.reasoning = usage.reasoning_tokens or 0
        self.has_tokens = usage.prompt_tokens is not None
        self.prompt = usage.prompt_tokens or 0
        self.cached = min(usage.cached_tokens or 0, self.prompt)
        self.written = usage.cache_write_tokens or 0
        self.completion = usage.completion_tokens or 0
        is_priced = any(self.details.get(item) and item in extras for item in UNITS)
        self.is_metered = is_priced and all(price is None for price in prices)
        """Whether only units other than tokens are billed; tokens in the response then cost nothing."""
        self.full_prompt = self.prompt
        """The input that the original cost charges at the prompt price."""
        self.original = 0.0
        """The cost of the further components if nothing had been cached or written."""
        self.charges: list[Charge] = []
        self.gaps: list[str] = []
        self.excludes: list[str] = []

    # -- tokens ---------------------------------------------------------------------------------------------------

    def add_modalities(self) -> None:
        """Charge audio, image and video tokens that have a separate price.

        Image and video tokens without one are charged as text, as providers do. Audio tokens are never charged as text,
        because their price is a multiple of it.
        """
        for modality in MODALITIES:
            prompt = min(self.details.get(f"{modality}_prompt_tokens", 0), self.prompt)
            if prompt and self._is_priced(modality, "prompt"):
                cached = min(self.details.get(f"{modality}_cached_tokens", 0), prompt, self.cached)
                # Tokens that were read from the cache and are not text must be of this modality.
                cached = min(max(cached, self.cached - (self.prompt - prompt)), prompt)
                self._take_input(modality, prompt, cached)
            completion = min(self.details.get(f"{modality}_completion_tokens", 0), self.completion)
            if completion and self._is_priced(modality, "completion"):
                self.completion -= completion
                self.original += self._charge(f"{modality}_completion", completion)

    def _is_priced(self, modality: str, part: str) -> bool:
        """Return True if the tokens need a charge; note a gap if they have no price but need one."""
        if f"{modality}_{part}" in self.extras:
            return True
        if modality == "audio":
            self.gaps.append(_label(f"{modality}_{part}"))
        return False

    def _take_input(self, modality: str, prompt: int, cached: int) -> None:
        price = self.extras[f"{modality}_prompt"]
        self.prompt -= prompt
        self.full_prompt -= prompt
        self.cached -= cached
        self.original += prompt * price / 1_000
        if prompt > cached:
            self._charge(f"{modality}_prompt", prompt - cached)
        if cached:
            # As with text, a cache price that is not listed is the prompt price.
            self._charge(f"{modality}_cached", cached, self.extras.get(f"{modality}_cached", price))

    def add_writes(self) -> None:
        """Charge the cache writes whose retention is not the default."""
        for item in CACHE_WRITES:
            tokens = min(self.details.get(f"{item}_tokens", 0), self.written)
            if tokens:
                self.written -= tokens
                self.prompt = max(self.prompt - tokens, 0)
                self._charge(item, tokens)

    def add_further_tokens(self) -> None:
        """Charge the tokens and searches that some models are billed for in addition to their completion."""
        further = {
            "reasoning": self.reasoning,
            "citation": self.details.get("citation_tokens", 0),
            "web_search": self.details.get("search_queries", 0),
        }
        for item, quantity in further.items():
            if quantity and item in self.extras:
                self.original += self._charge(item, quantity)

    def add_units(self) -> None:
        """Charge seconds, characters and images. Without a price they are a gap, unless the tokens are reported."""
        for item in UNITS:
            quantity = self.details.get(item)
            if quantity and (item in self.extras or not self.has_tokens):
                self.original += self._charge(item, quantity)

    # -- fees -----------------------------------------------------------------------------------------------------

    def add_tools(self, facts: Facts) -> None:
        """Charge the fee of the request and the uses of tools."""
        fee = self.extras.get(f"{REQUEST}_{(facts.options or {}).get('search_context_size', 'low')}")
        if fee is None:
            fee = self.extras.get(REQUEST)
        if fee is not None:
            self.original += self._charge(REQUEST, 1, fee)
        for tool, used in (facts.tools or {}).items():
            if isinstance(used, Mapping):
                self._add_model_tool(tool, used, facts.svg_rates if tool == SVG_GENERATION else facts.image_rates)
            elif tool in _NOT_KNOWABLE and tool not in self.extras:
                self.excludes.append(_NOT_KNOWABLE[tool])
            elif used:
                self.original += self._charge(tool, used)
                if tool == "file_search":
                    self.excludes.append(_STORAGE)

    def _add_model_tool(self, tool: str, used: Mapping[str, Any], rates: Rates | None) -> None:
        calls, label = used.get("calls") or 0, tool.replace("_", " ")
        if tool in self.extras:
            self.original += self._charge(tool, calls)
            return
        if not used.get("total_tokens"):
            if calls:
                self.gaps.append(f"{label} without reported tokens")
            return
        if rates is None or not rates.of_tokens:
            self.gaps.append(f"{label} by {used.get('model') or 'an unknown model'}")
            return
        for item, tokens, full, price in _tool_parts(tool, used, rates):
            if tokens:
                self._charge(f"{tool}_{item}", tokens, price)
                self.original += tokens * full / 1_000

    # -- amounts --------------------------------------------------------------------------------------------------

    def _charge(self, item: str, quantity: float, price: float | None = None) -> float:
        """Add a charge and return its amount; without a price, add a gap and return 0."""
        if price is None:
            price = self.extras.get(item)
            if price is None:
                self.gaps.append(_label(item))
                return 0.0
        of_tokens = item in TOKEN_ITEMS or item.startswith(tuple(f"{tool}_" for tool in MODEL_TOOLS))
        amount = quantity * price / 1_000 if of_tokens else quantity * price
        unit = "token" if of_tokens else UNITS.get(item, "request" if item == REQUEST else "call")
        each = price / 1_000 if of_tokens else price
        self.charges.append({"item": item, "quantity": quantity, "unit": unit, "price": each, "amount": amount})
        return amount

    def totals(self) -> tuple[float | None, float | None]:
        """Return the total and the original cost; None if a price is missing."""
        prompt_price, cached_price, write_price, completion_price = self.prices
        plain = max(self.prompt - self.cached - self.written, 0)
        parts = (
            (plain, prompt_price, "input tokens"),
            (self.cached, cached_price, "cached input tokens"),
            (self.written, write_price, "cache writes"),
            (self.completion, completion_price, "output tokens"),
        )
        if not self.is_metered:
            self.gaps += [label for tokens, price, label in parts if tokens and price is None]
        if self.gaps:
            return None, None
        total = sum([tokens * (price or 0.0) for tokens, price, _ in parts]) / 1_000
        original = (self.full_prompt * (prompt_price or 0.0) + self.completion * (completion_price or 0.0)) / 1_000
        return total + sum([charge["amount"] for charge in self.charges]), original + self.original


def has_units(usage: TokenUsage) -> bool:
    """Return True if a call is measured in seconds, characters or images."""
    return usage.details is not None and not UNITS.keys().isdisjoint(usage.details)


def _tool_parts(tool: str, used: Mapping[str, Any], rates: Rates) -> list[tuple[str, int, float, float]]:
    """Return the parts of a tool's tokens: name, tokens, price without the cache, price; USD per 1,000 tokens."""
    image_price = rates.extras.get("image_prompt", rates.prompt)
    image_cached = rates.extras.get("image_cached", rates.cached)
    image_output = rates.extras.get("image_completion", rates.completion)
    image, image_from_cache = used.get("image_prompt_tokens") or 0, used.get("image_cached_tokens") or 0
    cached = max((used.get("cached_tokens") or 0) - image_from_cache, 0)
    text = max((used.get("prompt_tokens") or 0) - image, 0)
    output = used.get("completion_tokens") or 0
    # Without a split, all output is the image; an SVG is text.
    text_output = output if tool == SVG_GENERATION else used.get("text_completion_tokens") or 0
    return [
        ("prompt", max(text - cached, 0), rates.prompt, rates.prompt),
        ("cached", cached, rates.prompt, rates.cached),
        ("image_prompt", max(image - image_from_cache, 0), image_price, image_price),
        ("image_cached", image_from_cache, image_price, image_cached),
        ("completion", text_output, rates.completion, rates.completion),
        ("image_completion", max(output - text_output, 0), image_output, image_output),
    ]


def factor_of(rates: Rates, options: Mapping[str, Any]) -> float | None:
    """Return the factor on the token prices from region, completion window and speed; None if one is unknown."""
    factor = 1.0
    if (region := options.get("region")) is not None:
        factor = rates.regions.get(region, rates.regions.get("*", 1.0))
    for _, value, factors in _choices(rates, options):
        if value not in factors:
            return None
        factor *= factors[value]
    return factor


def _choices(rates: Rates, options: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, float]]]:
    """Yield the options that change token prices: the name, the chosen value, and the factors of the model."""
    window, speed = options.get("completion_window"), options.get("speed")
    if window not in (None, "soonest", UNKNOWN_WINDOW):
        yield "completion window", window, rates.windows
    if speed not in (None, STANDARD_SPEED):
        yield "speed", speed, rates.speeds


def _label(item: str) -> str:
    """Return the name of a component for messages."""
    if item in UNITS:
        return item.replace("_", " ")
    modality, _, part = item.partition("_")
    if modality in MODALITIES and part in _PARTS:
        return f"{modality} {_PARTS[part]} tokens"
    return _LABELS.get(item, f"{item.replace('_', ' ')} calls")
