"""What models cost: US dollars per million tokens, by name, each price with its day and its source.

A price that is not known is None and never 0: a sum without it would look like a small one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from interalign.errors import InputError
from interalign.messages import Value

__all__ = ["FREE", "Price", "Prices", "load_prices"]

_FILE = "prices.toml"
_PER = 1_000_000
_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})")
# What an endpoint and Inspect add to the name of a model to tell where it runs.
_PLACE = re.compile(r"@(https?://.*|inspect)$")

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(Value):
    """US dollars per million tokens."""

    prompt: Dollars
    cached: Dollars | None = None
    """Of prompt tokens that the server had computed before; None: as `prompt`."""
    completion: Dollars
    as_of: date | None = None
    """The day on which it was seen."""
    source: str = ""

    def usd(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """Dollars for so many tokens; `cached_tokens` is the part of `prompt_tokens` that was computed before."""
        cached = min(cached_tokens, prompt_tokens)
        cached_price = self.prompt if self.cached is None else self.cached
        dollars = (prompt_tokens - cached) * self.prompt + cached * cached_price + completion_tokens * self.completion
        return dollars / _PER


FREE = Price(prompt=0, completion=0, source="runs in this process")


class Prices(Value):
    """Prices by model name."""

    models: Mapping[str, Price] = {}

    def of(self, name: str) -> Price | None:
        """The price of a model, None when it is not known.

        The longest name in the table counts that is the whole of `name`, or all of it but a date at its end. Where a
        model runs (`name@https://...`) is passed over, and so is one provider before it (`provider/name`) unless the
        table has the name with it.
        """
        bare = _PLACE.sub("", name)
        return self._of(bare) or self._of(bare.partition("/")[2])

    def _of(self, name: str) -> Price | None:
        matching = [known for known in self.models if name == known or _is_dated(name, known)]
        return self.models[max(matching, key=len)] if matching else None


def load_prices(path: Path | None = None) -> Prices:
    """The prices in a TOML file of the form of prices.toml; without one, those that come with interalign.

    Raises:
        InputError: the file is missing, or is no such file.
    """
    try:
        text = ((files("interalign.llm") / _FILE) if path is None else path).read_text(encoding="utf-8")
        return Prices.model_validate(tomllib.loads(text))
    except FileNotFoundError:
        raise InputError(f"The price file {path} does not exist.", mend="check the path.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, ValueError, RecursionError) as error:
        why = str(error)
    raise InputError(
        f"The price file {path} cannot be used: {why}.",
        mend='give each model a table: [models."name"] with prompt and completion, in US dollars per million tokens.',
    )


def _is_dated(name: str, known: str) -> bool:
    return name.startswith(known) and _DATE.fullmatch(name, len(known)) is not None
