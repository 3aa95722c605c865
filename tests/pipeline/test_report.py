"""What the page of a run says of who played in its evaluation."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from interalign.conversations.environment import environment_played_by
from interalign.llm.backends import LocalConfig, ModelConfig, ScriptedConfig
from interalign.pipeline import make_report
from interalign.pipeline.work import Work
from interalign.recipe import Recipe, load_recipe
from tests.evaluation.finished import CONFIG, SEED, finished_run


def reported(root: Path, player: ModelConfig | None) -> str:
    """The page of a finished run in which this model played every role."""
    roles = environment_played_by(player) if player else None
    run = finished_run(root, recipe=Recipe(seed=SEED, benchmark=CONFIG.model_copy(update={"roles": roles})))
    with Work.open(load_recipe(root / "recipe.toml"), run.root, Console(quiet=True)) as work:
        return make_report(work).read_text(encoding="utf-8")


def test_who_judged_is_told_with_a_warning(tmp_path: Path) -> None:
    page = reported(tmp_path / "run", LocalConfig(checkpoint="tiny"))
    assert "The judge is a language model: tiny in this process (temperature 0, max_tokens 100)." in page
    assert "<dt>User</dt><dd>tiny in this process (temperature 0.9, max_tokens 200)</dd>" in page
    assert "These people are simulated." in page


def test_rules_need_no_warning_and_a_script_is_called_one(tmp_path: Path) -> None:
    rules = reported(tmp_path / "rules", None)
    assert "The judge is" not in rules and "<dt>Judge</dt>" not in rules and "These people are programs." in rules
    assert "The judge is a script." in reported(tmp_path / "script", ScriptedConfig())
