"""Mistakes in pricing files: each is reported with its line, its key and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack.errors import ConfigError, PricingError
from rlm_cachetrack.pricing.price_book import PriceBook
from tests.unit.pricing.samples import HEAD, TEN_MISTAKES, prompt_price

MALFORMED = {
    # name: (text, line, key, value in the file, expected value)
    "empty": ("", 1, "the file", "is empty", "version: 1"),
    "only a comment": ("# nothing\n", 1, "the file", "is empty", "version: 1"),
    "a list": ("- a\n- b\n", 1, "the file", "is a list", "version, per and models"),
    "no version": ("per: 1M\nmodels: {}\n", 1, "version", "is missing", "version: 1"),
    "newer version": ("version: 2\nper: 1M\nmodels: {}\n", 1, "version", "is 2", "expected 1"),
    "no models": ("version: 1\nper: 1M\n", 1, "models", "is missing", "model names"),
    "empty models": ("version: 1\nper: 1M\nmodels:\n", 3, "models", "is empty", "a mapping of model names"),
    "unit": ("version: 1\nper: 1G\nmodels: {}\n", 2, "per", "is 1G", "1M or 1K"),
    "no unit": (
        "version: 1\nmodels:\n  m: {prompt: 1, completion: 1}\n",
        3,
        "models.m.per",
        "is missing",
        "1M or per: 1K",
    ),
    "unit of a model": (
        HEAD + "  m: {per: [1], prompt: 1, completion: 1}\n",
        4,
        "models.m.per",
        "is a list",
        "1M or 1K",
    ),
    "top-level typo": (
        "version: 1\nper: 1M\nmodel: {}\nmodels: {}\n",
        3,
        "model",
        "did you mean models?",
        "version, per",
    ),
    "key typo": (
        HEAD + "  m:\n    prompt: 1\n    completion: 1\n    chached: 0.1\n",
        7,
        "models.m.chached",
        "did you mean cached?",
        "one of provider, per, prompt",
    ),
    "tier typo": (
        HEAD + "  m:\n    prompt: 1\n    completion: 1\n    tiers:\n      flx: 0.5\n",
        8,
        "models.m.tiers.flx",
        "did you mean flex?",
        "one of flex, priority, batch",
    ),
    "duplicate model": (
        HEAD + "  m: {prompt: 1, completion: 1}\n  m: {prompt: 2, completion: 1}\n",
        5,
        "models.m",
        "already defined on line 4",
        "one definition",
    ),
    "duplicate price": (
        HEAD + "  m:\n    prompt: 1\n    prompt: 2\n    completion: 1\n",
        6,
        "models.m.prompt",
        "already defined on line 5",
        "one definition",
    ),
    "negative": (
        HEAD + "  m:\n    prompt: -1.25\n    completion: 1\n",
        5,
        "models.m.prompt",
        "is -1.25",
        "USD per 1M tokens, a number of at least 0",
    ),
    "nan": (HEAD + "  m: {prompt: .nan, completion: 1}\n", 4, "models.m.prompt", "is .nan", "a number"),
    "inf": (HEAD + "  m: {prompt: 1, completion: .inf}\n", 4, "models.m.completion", "is .inf", "a number"),
    "too great": (HEAD + "  m: {prompt: 1e400, completion: 1}\n", 4, "models.m.prompt", "1e400", "a number"),
    "bool": (HEAD + "  m: {prompt: true, completion: 1}\n", 4, "models.m.prompt", "is true", "a number"),
    "text": (HEAD + "  m: {prompt: cheap, completion: 1}\n", 4, "models.m.prompt", "is cheap", "a number"),
    "quoted": (
        HEAD + '  m: {prompt: "1.25", completion: 1}\n',
        4,
        "models.m.prompt",
        'the text "1.25"',
        "a number",
    ),
    "with a sign": (HEAD + "  m: {prompt: $1, completion: 1}\n", 4, "models.m.prompt", "is $1", "a number"),
    "octal": (HEAD + "  m: {prompt: 010, completion: 1}\n", 4, "models.m.prompt", "is 010", "a number"),
    "no price": (HEAD + "  m: {prompt: , completion: 1}\n", 4, "models.m.prompt", "is empty", "a number"),
    "price missing": (HEAD + "  m:\n    prompt: 1\n", 4, "models.m.completion", "is missing", "USD per 1M"),
    "price in 1K": (
        "version: 1\nper: 1K\nmodels:\n  m: {prompt: x, completion: 1}\n",
        4,
        "models.m.prompt",
        "is x",
        "USD per 1K tokens",
    ),
    "a price for a model": (
        HEAD + "  m: 1.25\n",
        4,
        "models.m",
        "is 1.25",
        "prompt and completion, or alias",
    ),
    "tiers as a list": (
        HEAD + "  m: {prompt: 1, completion: 1, tiers: [flex]}\n",
        4,
        "models.m.tiers",
        "is a list",
        "a factor or prices",
    ),
    "negative factor": (
        HEAD + "  m: {prompt: 1, completion: 1, tiers: {flex: -1}}\n",
        4,
        "models.m.tiers.flex",
        "is -1",
        "a factor of at least 0",
    ),
    "tier without completion": (
        HEAD + "  m:\n    prompt: 1\n    completion: 1\n    tiers:\n      batch: {prompt: 1}\n",
        8,
        "models.m.tiers.batch.completion",
        "is missing",
        "USD per 1M",
    ),
    "alias beside prices": (
        HEAD + "  m:\n    alias: gpt-5\n    prompt: 1\n",
        6,
        "models.m.prompt",
        "cannot be combined with alias",
        "either alias or prices",
    ),
    "alias of nothing": (HEAD + "  m: {alias: }\n", 4, "models.m.alias", "is empty", "a name"),
    "alias of itself": (HEAD + "  m: {alias: m}\n", 4, "models.m.alias", "m -> m", "a model that has prices"),
    "circle": (
        HEAD + "  a:\n    alias: b\n  b: {alias: c}\n  c: {alias: a}\n",
        5,
        "models.a.alias",
        "a -> b -> c -> a",
        "a model that has prices",
    ),
    "provider": (
        HEAD + "  m: {provider: [openai], prompt: 1, completion: 1}\n",
        4,
        "models.m.provider",
        "is a list",
        "a name",
    ),
    "a list as a key": (
        HEAD + "  ? [a, b]\n  : {prompt: 1, completion: 1}\n",
        4,
        "models.?",
        "a key",
        "a name",
    ),
}


@pytest.mark.parametrize(("text", "line", "key", "found", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_a_mistake_names_file_line_key_and_what_was_expected(book, tmp_path, text, line, key, found, expected):
    with pytest.raises(PricingError) as caught:
        book(text)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{tmp_path / 'prices.yaml'}:{line}: {key}: ")
    message, _, expectation = first.partition("; expected ")
    assert found in message
    assert expected.removeprefix("expected ") in expectation
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        (HEAD + "  m: {prompt: 1\n", 5, "not valid YAML"),
        (HEAD + "\tm: {prompt: 1}\n", 4, "not valid YAML"),
        (HEAD + "  m: *missing\n", 4, "missing"),
        ("version: 1\n---\nversion: 1\n", 2, "single document"),
        (HEAD.encode() + b"  caf\xe9: {prompt: 1, completion: 1}\n", 4, "0xe9 is not UTF-8"),
        (HEAD + "  m\x00: {}\n", 4, "not valid YAML"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
    ids=["unclosed", "tab", "anchor", "two documents", "latin-1", "NUL", "nesting"],
)
def test_invalid_yaml_is_rejected_with_its_line(book, text, line, found):
    with pytest.raises(PricingError, match=rf"prices\.yaml:{line}: .*; expected ") as caught:
        book(text)
    assert found in str(caught.value)


def test_mistakes_are_reported_in_the_order_of_the_file(book):
    with pytest.raises(PricingError) as caught:
        book("version: 3\nper: 1X\nmodels:\n  a: {prompt: -1, completion: no}\n  b: {alias: b}\n  c: {cost: 1}\n")
    lines = [line.split(": ")[0].rsplit(":", 1)[1] for line in str(caught.value).splitlines()]
    # version, per, a.prompt, a.completion, b.alias; c has an unknown key and lacks both prices
    assert lines == ["1", "2", "4", "4", "5", "6", "6", "6"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PricingError, match=r"gone\.yaml: no such file; expected a pricing YAML"):
        PriceBook.load(tmp_path / "gone.yaml")


def test_a_folder_is_rejected(tmp_path):
    with pytest.raises(PricingError, match="cannot be read"):
        PriceBook.load(str(tmp_path))


def test_a_file_with_a_byte_order_mark_and_anchors_is_read(book):
    prices = book(
        b"\xef\xbb\xbfversion: 1\r\nper: 1M\r\nmodels:\r\n  a: &same {prompt: 1, completion: 2.5e-1}\r\n  b: *same\r\n"
    )
    assert prices.rates(model="b").completion == 0.00025


def test_all_mistakes_of_a_file_are_reported_at_once_with_their_lines(book: Any, tmp_path: Path) -> None:
    with pytest.raises(PricingError) as caught:
        book(TEN_MISTAKES)
    name = re.escape(str(tmp_path / "prices.yaml"))
    expected = [
        r"3: prizes: is not known.*; expected one of version, per, models, discounts",
        r"5: models\.a\.prompt: is -1; expected USD per 1M tokens, a number of at least 0 such as 1\.25",
        r"6: models\.b\.completon: is not known \(did you mean completion\?\); expected one of .*completion.*",
        r"7: models\.c\.completion: is missing; expected USD per 1M tokens.*",
        r"8: models\.d\.alias: is gpt-4oo, an unknown model \(did you mean gpt-4o\?\); expected .*",
        r"9: models\.e\.alias: is circular \(e -> f -> e\); expected the name of a model that has prices",
        r"10: models\.f\.alias: is circular \(f -> e -> f\); expected the name of a model that has prices",
        r"11: models\.g\.tiers\.flx: is not known \(did you mean flex\?\); expected one of flex, priority, batch.*",
        r"14: models\.h\[1\]: is valid at the same time as models\.h\[0\] \(line 13\); expected another .*",
        r"15: models\.i\.valid_from: is 2026-13-01; expected a date such as 2026-01-31.*",
        r"16: models\.i: is already defined on line 15; expected one definition",
        r"17: models\./j\(/: is not a valid regular expression \(.*\); expected a regular expression between slashes",
        r"18: discounts\.openai: is ten percent; expected a factor of at least 0: 0\.9 is 10% off",
    ]
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected), "\n".join(lines)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(f"{name}:{pattern}", line), line


MORE_MISTAKES = {
    "an end before the beginning": (
        "  m: {prompt: 1, completion: 1, valid_from: 2026-02-01, valid_to: 2026-02-01}\n",
        4,
        "models.m.valid_to: is 2026-02-01; expected a time after valid_from, such as 2026-02-02",
    ),
    "a star inside": ("  a*b: {prompt: 1, completion: 1}\n", 4, "models.a*b: has a * inside; expected * at the end"),
    "a band of no number": (
        "  m: {prompt: 1, completion: 1, above: {many: {prompt: 1, completion: 1}}}\n",
        4,
        "models.m.above.many: is many; expected a number of prompt tokens such as 272000",
    ),
    "a band that is a factor": (
        "  m:\n    prompt: 1\n    completion: 1\n    above:\n      200000: 2\n",
        8,
        "models.m.above.200000: is 2; expected prices",
    ),
    "a key of a band": (
        "  m:\n    prompt: 1\n    completion: 1\n    above:\n      200000: {prompt: 1, completion: 1, tiers: {}}\n",
        8,
        "models.m.above.200000.tiers: is not known; expected one of prompt, cached, cache_write, completion, ",
    ),
    "the same provider by two names": (
        "  m:\n    - {provider: xai, prompt: 1, completion: 1}\n    - {provider: x-ai, prompt: 2, completion: 1}\n",
        6,
        "models.m[1]: is valid at the same time as models.m[0] (line 5); expected another provider, or another period",
    ),
    "one band written in two ways": (
        "  m:\n    prompt: 1\n    completion: 1\n    above:\n      272000: {prompt: 1, completion: 1}\n"
        "      272_000: {prompt: 2, completion: 1}\n",
        9,
        "models.m.above.272_000: is the same size as 272000 (line 8); expected another size",
    ),
    "one band of a tier written in two ways": (
        "  m:\n    prompt: 1\n    completion: 1\n    tiers:\n      flex:\n        prompt: 1\n        completion: 1\n"
        "        above: {1_0: {prompt: 1, completion: 1}, 10: {prompt: 2, completion: 1}}\n",
        11,
        "models.m.tiers.flex.above.10: is the same size as 1_0 (line 11); expected another size",
    ),
    "the tier that OpenAI calls fast": (
        "  m: {prompt: 1, completion: 1, tiers: {fast: 2}}\n",
        4,
        'models.m.tiers.fast: is not known (use priority; OpenAI calls it "fast"); expected one of flex, priority',
    ),
    "a discount without a factor": (
        "  m: {prompt: 1, completion: 1}\ndiscounts:\n  azure: {valid_to: 2026-01-01}\n",
        6,
        "discounts.azure.factor: is missing; expected a factor of at least 0: 0.9 is 10% off",
    ),
    "two discounts at once": (
        "  m: {prompt: 1, completion: 1}\ndiscounts:\n  xai: 0.9\n  x-ai: 0.8\n",
        7,
        "discounts.x-ai: is valid at the same time as discounts.xai (line 6); expected another period",
    ),
    "a model without an entry": (
        "  m: []\n",
        4,
        "models.m: is an empty list; expected a mapping with prompt and completion, or alias, or inherit, or a list",
    ),
    "a discount without an entry": (
        "  m: {prompt: 1, completion: 1}\ndiscounts:\n  azure: []\n",
        6,
        "discounts.azure: is an empty list; expected a factor, or a list of dated factors",
    ),
    "a misspelt provider": (
        "  m: {provider: opnai, prompt: 1, completion: 1}\n",
        4,
        "models.m.provider: is opnai, an unknown provider (did you mean openai?); expected the name of a provider",
    ),
    "a misspelt provider of an alias in a list": (
        "  m:\n    - alias: gpt-5\n      provider: Azzure\n",
        6,
        "models.m[0].provider: is Azzure, an unknown provider (did you mean azure?); expected the name of a provider",
    ),
    "a misspelt provider with a discount": (
        "  m: {prompt: 1, completion: 1}\ndiscounts: {open-ai: 0.9}\n",
        5,
        "discounts.open-ai: is open-ai, an unknown provider (did you mean openai?); expected the name of",
    ),
    "an empty price in a list": (
        "  m:\n    - prompt: 1\n      cached:\n      completion: 1\n",
        6,
        "models.m[0].cached: is empty; expected USD per 1M tokens",
    ),
}


@pytest.mark.parametrize(("text", "line", "message"), MORE_MISTAKES.values(), ids=MORE_MISTAKES)
def test_a_mistake_is_reported_with_its_line_and_key(book: Any, text: str, line: int, message: str) -> None:
    with pytest.raises(PricingError) as caught:
        book(HEAD + text)
    assert f"prices.yaml:{line}: {message}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "provider", ["azure", "x-ai", "Vertex-AI", "azure2", "openai-eu", "our-gateway", "unknown", "vllm"]
)
def test_a_custom_provider_name_is_not_a_mistake(book: Any, provider: str) -> None:
    found = book(HEAD + f"  m: {{provider: {provider}, prompt: 3, completion: 1}}\ndiscounts: {{{provider}: 0.5}}\n")
    # It is unknown whether a discount applies to calls of an unknown provider.
    assert prompt_price(found, "m", provider=provider) == (3 if provider == "unknown" else 1.5)


def test_an_entry_that_contains_itself_is_a_mistake(book: Any) -> None:
    with pytest.raises(PricingError, match=r"prices\.yaml:\d+: "):
        book(HEAD + "  m: &m\n    prompt: 1\n    completion: 1\n    above: {1000: *m}\n    tiers: *m\n")
