from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from interalign.cli.metrics import metrics
from interalign.errors import InputError

app = typer.Typer()
app.command()(metrics)


def run(path: Path, *options: str) -> str:
    result = CliRunner().invoke(app, [str(path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    path = tmp_path / "levels.csv"
    path.write_text("model,bench,al1,al2,al3\n[red]a,ours,1,2,3\nflat,ours,2,2,2\n", encoding="utf-8")
    return path


def test_a_table_for_people(levels: Path) -> None:
    text = run(levels)
    assert "[red]a" in text and "2.000" in text and "0.500" in text and "bench: ours" in text
    assert "–" in text and "–: undefined" in text  # a flat curve has no R2


def test_a_list_for_programs(levels: Path) -> None:
    steep, flat = json.loads(run(levels, "--json"))
    assert list(steep) == ["model", "bench", "mean_al", "ir", "r2", "n_ir", "n_r2"]
    assert steep == {"model": "[red]a", "bench": "ours", "mean_al": 2, "ir": 1, "r2": 1, "n_ir": 0.5, "n_r2": 1}
    assert (flat["ir"], flat["r2"], flat["n_ir"], flat["n_r2"]) == (0, None, None, None)


def test_a_table_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path / "absent.csv")
