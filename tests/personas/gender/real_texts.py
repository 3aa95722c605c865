"""Texts that somebody wrote: the seeds, and the released personas where they are."""

from __future__ import annotations

import json

import pytest

from interalign.personas.seeds import seeds
from tests.personas.exchange.pools import RELEASE

SEEDS = [text for kind in ("profile", "personality") for seed in seeds(kind) for text in (seed.text, seed.paraphrase)]


def released(name: str) -> list[str]:
    """The texts of a released file: JSON strings, now and then several in a line."""
    path = RELEASE / name
    if not path.is_file():
        pytest.skip(f"{path} is missing: the released personas have no licence and are not part of the project")
    decoder, rest, texts = json.JSONDecoder(), path.read_text(encoding="utf-8").strip(), []
    while rest:
        text, end = decoder.raw_decode(rest)
        texts.append(text)
        rest = rest[end:].lstrip(", \r\n")
    return texts
