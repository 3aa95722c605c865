"""What every page of this package shares: one HTML file that carries all it shows and asks nothing of the network.

Texts of models, users and files are hostile data. They enter the markup through jinja2 with escaping always on, and
the script through a JSON island; a page's policy runs no script but its own two and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from interalign.evaluation.notation import UNDEFINED, number
from interalign.report.island import as_script

__all__ = ["fill", "percent", "policy"]


def fill(template: str, *, styles: Sequence[str], scripts: Sequence[str], data: object, **shown: object) -> str:
    """The page as one string: 1.2 MB for the figures' library, and what the shown texts take.

    Args:
        template: The asset with the markup. It places `style`, `policy`, `data`, `figures_library` and `script`.
        styles: Assets with style sheets, the general ones first.
        scripts: Assets with the page's own scripts, which run in this order after `shared.js`.
        data: What the script reads; must be JSON.
        shown: What else the template names.
    """
    library, own = _asset("plotly-basic.min.js"), "".join(map(_asset, ("shared.js", *scripts)))
    page = (
        _environment()
        .from_string(_asset(template))
        .render(
            style=Markup("".join(map(_asset, styles))),
            policy=policy([library, own]),
            data=as_script(data),
            figures_library=Markup(library),
            script=Markup(own),
            **shown,
        )
    )
    # Half a surrogate pair, as cut streams and odd file names have it, cannot be written as UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def policy(scripts: Iterable[str]) -> str:
    """Content security policy: these scripts by their hashes, and nothing from anywhere.

    The figures' library sets styles from its script, so styles are allowed inline.
    """
    digests = (hashlib.sha256(text.encode()).digest() for text in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def percent(share: float | None) -> str:
    """A share in percent; with a decimal where rounding would say none, all, or little more than nothing."""
    if share is None:
        return UNDEFINED
    whole = 0.1 <= share < 0.995 or share in (0, 1)
    return f"{number(100 * share, 0 if whole else 1)}\N{NO-BREAK SPACE}%"


@cache
def _asset(name: str) -> str:
    """The text of a file that lies beside this module."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    return environment
