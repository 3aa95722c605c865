"""What benchmarks share: how they are called, what they tell of the machine, how they print, a delayed server."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from interalign.errors import InteralignError
from interalign.llm.hardware import machine
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.run import write_json

SEED = 7
SERVER = Path(__file__).with_name("delayed_server.py")
PACKAGES = ("interalign", "numpy", "pydantic")

console = Console()
progress = Console(stderr=True)


def measure_and_tell(
    what: str,
    result: Path,
    measure: Callable[[bool, int], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], None],
    *,
    served: bool = True,
) -> None:
    """Run the benchmark whose numbers lie in `result`: `measure` takes whether to be quick, and the seed.

    Nothing is written of a quick one unless a file is named. `served` tells that the delayed server took part.
    """
    args = parsed(what, result)
    started, before = load(), versions(served=served)
    try:
        measured = measure(args.quick, args.seed)
    except InteralignError as error:
        sys.exit(str(error))
    show(measured)
    if (out := args.out or (None if args.quick else result)) is not None:
        options = (" --quick" if args.quick else "") + (f" --seed {args.seed}" if args.seed != SEED else "")
        command = f"python benchmarks/{result.stem}.py{options}"
        told = {"command": command, **circumstances(args, started, before, served=served)}
        write_json(out, {**told, "result": {"quick": args.quick, **measured}})
        note(f"written: {out}")


def parsed(what: str, result: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default: {result.name} beside, with --quick none")
    return parser.parse_args()


def circumstances(
    args: argparse.Namespace, load_before: list[float] | None, versions: Mapping[str, str], *, served: bool
) -> dict[str, Any]:
    return {
        "machine": machine() + ("; the server on the same machine" if served else ""),
        "load_average": {"before": load_before, "after": load()},
        "versions": versions,
        "seed": args.seed,
    }


def versions(*, served: bool) -> dict[str, str]:
    """Of what the numbers depend on; known before measuring, so that what is missing is not found out after it."""
    packages = (*PACKAGES, "openai") if served else PACKAGES
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{package: version(package) for package in packages},
    }


def load() -> list[float] | None:
    """How busy the machine is: above the number of its cores, times say little."""
    return [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else None


def personas(count: int, seed: int) -> list[Persona]:
    return [one for one in compose_personas(WorldConfig(train=count), seed) if one.split == "train"]


@contextmanager
def delayed_server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    call = [sys.executable, str(SERVER)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def summary(values: Sequence[float]) -> dict[str, Any]:
    return {"median": rounded(median(values)), "repeats": [rounded(value) for value in values]}


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def note(text: str) -> None:
    progress.print(text, soft_wrap=True)


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place))
    return table
