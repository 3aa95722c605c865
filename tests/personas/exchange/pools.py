"""Small files of descriptions and personas, and what stands in those that were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.exchange import Imported

RELEASE = Path(__file__).parents[4] / "shared" / "aloe-release"
BAKER = "She bakes bread in a town by the sea."
GUARD = "He guards a museum at night and reads on shift."
MOODY = "Quick to take offence, and the first to apologise."
WORLD = compose_personas(WorldConfig(train=6, heldout=3), 5)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


def stored(folder: Path, name: str, *lines: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


def table(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def texts(imported: Imported) -> list[str]:
    return [description.text for description in imported.descriptions]


def kinds(imported: Imported) -> list[str]:
    return [description.kind for description in imported.descriptions]


def told(imported: Imported) -> list[tuple[str, str, bool]]:
    return [(problem.place, problem.what, problem.kept) for problem in imported.problems]
