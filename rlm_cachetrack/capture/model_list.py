"""Ask the provider of the environment's API key for its list of models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from rlm_cachetrack.errors import CacheTrackError, ConfigError

from .endpoints import provider_of

_TIMEOUT_S = 20.0


class ModelListError(CacheTrackError):
    """The provider did not return its list of models."""


@dataclass(frozen=True)
class ModelList:
    """The models of a provider.

    Attributes:
        provider: The provider, as stored with its calls.
        shutdown_dates: The day on which each model shuts down, by its id; None: not announced.
    """

    provider: str
    shutdown_dates: dict[str, date | None]


def list_models() -> ModelList:
    """Return the models of the provider that ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL`` name. Blocks for a request.

    Raises:
        ConfigError: No API key is set.
        ModelListError: The provider did not return its list.
    """
    import openai

    try:
        client = openai.OpenAI(max_retries=1, timeout=_TIMEOUT_S)
    except openai.OpenAIError as exc:
        raise ConfigError("the list of models needs an API key: set OPENAI_API_KEY") from exc
    with client:
        try:
            listed = list(client.models.list())
        except openai.APIStatusError as exc:
            # Without the message, which may quote a part of the key.
            raise ModelListError(f"{client.base_url.host} returned status {exc.status_code} for models.list") from None
        except openai.OpenAIError as exc:
            raise ModelListError(f"{client.base_url.host} did not return its models: {type(exc).__name__}") from None
        return ModelList(
            provider_of(client), {model.id: _day(getattr(model, "shutdown_date", None)) for model in listed}
        )


def _day(text: object) -> date | None:
    """Parse a day in ISO 8601; return None for other values, which SDK releases that lack the field may return."""
    try:
        return date.fromisoformat(text[:10]) if isinstance(text, str) else None
    except ValueError:
        return None
