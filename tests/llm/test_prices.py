from __future__ import annotations

from pathlib import Path

import pytest

from interalign.errors import InputError
from interalign.llm.prices import FREE, Price, Prices, load_prices

ONE, TWO = Price(prompt=1, completion=2), Price(prompt=3, cached=1, completion=4)
TABLE = Prices(models={"gpt": ONE, "gpt-mini": TWO, "team/gpt": TWO})


def write(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("gpt", ONE),
        ("gpt-mini", TWO),
        ("gpt-2024-07-18", ONE),
        ("gpt-mini-2024-07-18", TWO),
        ("gpt-mini-20240718", TWO),
        ("gpt-mini@20240718", TWO),
        ("openai/gpt", ONE),
        ("openai/gpt-2024-07-18", ONE),
        ("team/gpt", TWO),
        ("gpt@https://api.example.com/v1", ONE),
        ("openai/gpt@inspect", ONE),
        ("gpt-mini@20240718@http://localhost:1/v1", TWO),
        ("gpt-nano", None),
        ("gpt-mini-audio", None),
        ("gpt-mini-2024-07-18-tuned", None),
        ("ft:gpt", None),
        ("gp", None),
        ("a/b/gpt", None),
        ("", None),
        ("openai/", None),
    ],
)
def test_a_name_and_its_dated_versions_have_one_price(name: str, price: Price | None) -> None:
    assert TABLE.of(name) == price


def test_a_dated_version_can_have_a_price_of_its_own() -> None:
    table = Prices(models={"gpt": ONE, "gpt-2024-05-13": TWO})
    assert table.of("gpt-2024-05-13") == TWO
    assert table.of("gpt-2024-08-06") == ONE


def test_cached_tokens_are_charged_apart_and_without_a_price_of_their_own_as_the_rest() -> None:
    assert TWO.usd(1_000_000, 400_000, 500_000) == pytest.approx(0.6 * 3 + 0.4 * 1 + 0.5 * 4)
    assert ONE.usd(1_000_000, 400_000, 500_000) == pytest.approx(1 + 0.5 * 2)
    assert TWO.usd(10, 10_000, 0) == TWO.usd(10, 10, 0)
    assert FREE.usd(10**9, 0, 10**9) == 0


def test_the_shipped_prices_each_have_a_day_and_a_source() -> None:
    prices = load_prices()
    assert prices.of("gpt-4o-mini-2024-07-18") == prices.models["gpt-4o-mini"]
    assert all(price.as_of and price.source and price.completion > 0 for price in prices.models.values())


def test_a_file_replaces_the_table(tmp_path: Path) -> None:
    path = write(tmp_path, '[models."mine"]\nprompt = 0\ncompletion = 0.5\nas_of = 2026-01-31\nsource = "the bill"\n')
    prices = load_prices(path)
    assert prices.of("gpt-4o") is None
    mine = prices.of("mine")
    assert mine is not None
    assert (mine.prompt, mine.cached, mine.completion, mine.source) == (0, None, 0.5, "the bill")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models", "cannot be used"),
        ('[models."m"]\nprompt = 1', "models.m.completion: Field required"),
        ('[models."m"]\nprompt = -1\ncompletion = 1', "models.m.prompt"),
        ('[models."m"]\nprompt = nan\ncompletion = 1', "models.m.prompt"),
        ('[models."m"]\nprompt = 1\ncompletion = 1\ninput = 3', "models.m.input"),
        ('["m"]\nprompt = 1\ncompletion = 1', "m: Extra inputs"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match="per million tokens") as caught:
        load_prices(write(tmp_path, text))
    assert words in caught.value.what


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prices\.toml does not exist"):
        load_prices(tmp_path / "prices.toml")
