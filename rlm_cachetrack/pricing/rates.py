"""The prices of one call: the four standard components, the further components, and the factors on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .costs import Prices

CACHE_WRITES = ("cache_write_1h", "cache_write_12h")
"""Cache writes with a longer retention than the provider's default, which ``cache_write`` is for."""
MODALITIES = ("audio", "image", "video")
TOKEN_ITEMS = frozenset(
    (
        *CACHE_WRITES,
        *(f"{modality}_{part}" for modality in MODALITIES for part in ("prompt", "cached", "completion")),
        "reasoning",
        "citation",
    )
)
"""The further components that are counted in tokens. :data:`UNITS` have other units; all others are counted in uses.

``reasoning`` and ``citation`` are tokens that a provider charges in addition to the completion (Perplexity).
"""
UNITS = {
    "seconds": "second",
    "paused_seconds": "second",
    "characters": "character",
    "images": "image",
    "text_messages": "message",
    "pages": "page",
    "annotated_pages": "page",
}
"""The further components that are counted in other units than tokens, and the name of one unit of each."""
REQUEST = "request"
"""The fee for each request, whatever it uses; with ``_low``, ``_medium`` or ``_high``: for a size of search context."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of one call, in USD per 1,000 tokens.

    Attributes:
        prompt: Price of input neither read from the cache nor written to it.
        cached: Price of input read from the cache.
        cache_write: Price of input written to the cache with the default retention.
        completion: Price of output.
        source: ``yaml:<sha8>`` or ``genai-prices:<version>``, so that the prices can be looked up again.
        extras: Prices of further components by name: USD per 1,000 tokens for those in :data:`TOKEN_ITEMS`, USD per use
            for tools (``web_search``, ``file_search``, …) and for ``request``, USD per unit for those in
            :data:`UNITS`. A component that is not listed has no price.
        regions: Factors on the token prices by region of processing, such as ``eu``; a region that is not listed has
            the factor 1.
        windows: Factors on the token prices by completion window of a background response, such as ``8h``; a window
            that is not listed, except ``soonest``, has no price.
        speeds: Factors on the token prices by speed of inference, such as ``fast``; a speed that is not listed, except
            ``standard``, has no price.
        of_tokens: Whether tokens have a price. False for a model that is billed by other units alone; its four token
            prices are then 0 and not used.
    """

    prompt: float
    cached: float
    cache_write: float
    completion: float
    source: str
    extras: Mapping[str, float] = field(default_factory=dict)
    regions: Mapping[str, float] = field(default_factory=dict)
    windows: Mapping[str, float] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    of_tokens: bool = True
    has_surcharges: bool = field(init=False)
    """True if every call has other charges than the four prices, even without tools and without token details."""

    def __post_init__(self) -> None:
        has_fee = any(name.startswith((REQUEST, "reasoning")) for name in self.extras)
        has_surcharges = has_fee or not self.of_tokens
        object.__setattr__(self, "has_surcharges", has_surcharges)

    @classmethod
    def of_units(cls, prices: Mapping[str, float], source: str) -> Rates:
        """Return the prices of a model that is billed by other units than tokens alone.

        Args:
            prices: USD per unit, by the names in :data:`UNITS`.
            source: As in the class.
        """
        return cls(0.0, 0.0, 0.0, 0.0, source, prices, of_tokens=False)

    @property
    def prices(self) -> Prices:
        """Return the four prices in the order that :func:`~.amounts` expects; None if tokens have no price."""
        if not self.of_tokens:
            return None, None, None, None
        return self.prompt, self.cached, self.cache_write, self.completion

    @property
    def is_free(self) -> bool:
        """True if no component has a price."""
        return self.of_tokens and not self.extras and self.prices == (0, 0, 0, 0)

    def times(self, factor: float, *, of_tokens_only: bool = True, source: str | None = None) -> Rates:
        """Return the prices multiplied by a factor.

        Args:
            factor: The factor.
            of_tokens_only: Whether fees per use keep their price.
            source: The new price source; None: the same.
        """
        return replace(
            self,
            prompt=self.prompt * factor,
            cached=self.cached * factor,
            cache_write=self.cache_write * factor,
            completion=self.completion * factor,
            extras={
                name: price if of_tokens_only and name not in TOKEN_ITEMS else price * factor
                for name, price in self.extras.items()
            },
            source=self.source if source is None else source,
        )


@dataclass(frozen=True, slots=True)
class Period:
    """Prices between two price changes: ``rates[i]`` is for prompts of more than ``starts[i - 1]`` tokens."""

    starts: tuple[int, ...]
    rates: tuple[Rates, ...]
