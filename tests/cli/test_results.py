"""`interalign results`, `compare`, `ranking` and `rescore`, as they are typed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from interalign.cli.console import err, out
from interalign.cli.results import compare, ranking, rescore, results
from interalign.errors import InputError
from interalign.evaluation.summary import Summary
from interalign.run import RunFolder, read_json
from tests.evaluation.finished import finished_run, played

Run = Callable[..., Result]

APP = typer.Typer()
for command in (results, compare, ranking, rescore):
    APP.command()(command)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; what it raises on purpose is raised here."""
    for console in (out, err):
        monkeypatch.setattr(console, "_width", 80)

    def once(*words: str | Path) -> Result:
        done = CliRunner().invoke(APP, list(map(str, words)))
        if isinstance(done.exception, Exception):
            raise done.exception
        return done

    return once


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return finished_run(tmp_path / "first")


def test_results_are_printed_and_written_in_any_format(run: Run, folder: RunFolder, tmp_path: Path) -> None:
    assert run("results", folder.root).output.startswith("| model | AL(1)")
    assert r"\toprule" in run("results", folder.root, "--format", "latex").output
    rows = list(csv.DictReader(StringIO(run("results", folder.root, "--format", "csv").output)))
    assert {row["model"] for row in rows} == {"base", "tuned", "mirror"}
    assert 'name: "tuned"' in run("results", folder.root, "--format", "model-index").output
    assert 'name: "base"' in run("results", folder.root, "--format", "model-index", "--model", "base").output
    file = tmp_path / "deep" / "results.json"
    assert run("results", folder.root, "--format", "json", "--out", file).output == f"the whole summary: {file}\n"
    assert read_json(file, Summary) == read_json(folder.eval / "summary.json", Summary)
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    run("results", folder.root, "--format", "parquet", "--out", tmp_path / "results.parquet")
    assert (tmp_path / "results.parquet").read_bytes().startswith(b"PAR1")


def test_mistakes_with_results_are_told(run: Run, folder: RunFolder) -> None:
    with pytest.raises(InputError, match="no format 'html'"):
        run("results", folder.root, "--format", "html")
    with pytest.raises(InputError, match="no text to print"):
        run("results", folder.root, "--format", "parquet")
    with pytest.raises(InputError, match="--model belongs to"):
        run("results", folder.root, "--model", "base")


def test_two_runs_are_compared_and_a_page_is_written(run: Run, folder: RunFolder, tmp_path: Path) -> None:
    other = finished_run(tmp_path / "second", {"base": played("constant"), "other": played("oracle")})
    page = tmp_path / "comparison.html"
    done = run("compare", folder.root, other.root, "--html", page)
    assert "other \N{MINUS SIGN} tuned" in done.output and "shown once: base" in done.output
    assert "mirror" not in done.output and "\N{EN DASH}3" in done.output
    assert "other answers people" in done.output or "tuned answers people" in done.output
    assert page.read_text().startswith("<!doctype html>")


def test_replies_are_judged_anew_and_the_judges_ranked(run: Run, folder: RunFolder) -> None:
    done = run("rescore", folder.root, "--judge", "scripted", "--name", "script", "--max-tokens", "222")
    assert "max_tokens 222" in (folder.root / "rescored" / "script" / "judge.json").read_text()
    assert "Spearman's correlation" in done.output and "Kendall's tau-b" in done.output
    assert json.loads((folder.root / "rescored" / "script" / "agreement.json").read_text())["folder"] == "script"
    again = folder.root / "rescored" / "script"
    ranked = run("ranking", folder.root, again).output
    assert "first/script" in ranked and "P(best)" in ranked and "mirror" not in ranked
    with pytest.raises(InputError, match=r"The judge is not the same.*judgements of the same replies"):
        run("compare", folder.root, again)


def test_an_estimate_judges_nothing(run: Run, folder: RunFolder) -> None:
    assert "judge" in run("rescore", folder.root, "--judge", "scripted", "--estimate").output
    assert not (folder.root / "rescored").exists()


def test_mistakes_with_judges_are_told(run: Run, folder: RunFolder, tmp_path: Path) -> None:
    for words in (("--weighted",), ("--max-tokens", "200")):
        with pytest.raises(InputError, match="Rules take no"):
            run("rescore", folder.root, "--judge", "rules", *words)
    with pytest.raises(InputError, match="lacks http://"):
        run("rescore", folder.root, "--judge", "m@localhost:8731/v1")
    with pytest.raises(InputError, match="no finished evaluation"):
        run("rescore", tmp_path / "nowhere", "--judge", "rules")
    assert not (tmp_path / "nowhere").exists()
