"""The results of evaluations as their run folders keep them, and which of them can be told together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from interalign.conversations.environment import EnvironmentRoles
from interalign.errors import InputError
from interalign.evaluation.compare import Results
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.messages import Value
from interalign.pipeline.evaluate import people_of, verdicts_at
from interalign.pipeline.record import Evaluation
from interalign.pipeline.setting import RULES, judge_in_words, sampling_in_words
from interalign.recipe import Recipe, load_recipe
from interalign.run import RunFolder, read_json, read_jsonl

__all__ = ["RULES", "JudgedAnew", "judge_in_words", "read_results", "read_summary", "rescored_at"]

_PLAYED = ("user", "checker", "inducer", "judge")
"""The roles on which scores depend, by the names of the recipe."""


class JudgedAnew(Value):
    """What `rescored/<name>/judge.json` tells: who has judged the replies of this run once more."""

    judge: str
    """Who it is, in words (`judge_in_words`): no other may write into the same folder."""
    world: str


def rescored_at(run: RunFolder) -> Path:
    """The folder with one folder for each judge who has judged a run's replies once more."""
    return run.root / "rescored"


def read_results(paths: Sequence[Path]) -> list[Results]:
    """The results of run folders, or of folders in their `rescored/`, each under a label of its own.

    Raises:
        InputError: a folder holds no finished evaluation, the same one is named twice, or a file cannot be read.
    """
    again = [path for path, times in Counter(path.resolve() for path in paths).items() if times > 1]
    if again:
        raise InputError(f"{again[0]} is named twice.", mend="name each result once.")
    places = [_place(path) for path in paths]
    labels = [_label(run, folder) for run, folder in places]
    clash = Counter(labels)
    return [
        _read(run, folder, str(path) if clash[label_] > 1 else label_)
        for path, (run, folder), label_ in zip(paths, places, labels, strict=True)
    ]


def read_summary(path: Path) -> Summary:
    """The summary of a run, or of one of its rescorings.

    Raises:
        InputError: there is none.
    """
    return read_json(_place(path)[1] / "summary.json", Summary)


def _place(path: Path) -> tuple[RunFolder, Path]:
    """The run that a path is of, and the folder with its summary."""
    if (path / "eval" / "summary.json").is_file():
        return RunFolder(path), path / "eval"
    # A path may be "." or end in "..", which has no name and other parents.
    folder = path.resolve()
    if (folder / "summary.json").is_file() and _is_rescored(folder):
        return RunFolder(folder.parent.parent), folder
    if (folder / "summary.json").is_file() and folder.name == "eval":
        return RunFolder(folder.parent), folder
    raise InputError(
        f"{path} holds no finished evaluation.",
        mend="name the folder of a run after `interalign eval`, or one in its rescored/.",
    )


def _is_rescored(path: Path) -> bool:
    return (path / "judge.json").is_file()


def _label(run: RunFolder, folder: Path) -> str:
    name = run.root.resolve().name
    return f"{name}/{folder.name}" if _is_rescored(folder) else name


def _read(run: RunFolder, folder: Path, label_: str) -> Results:
    summary = read_json(folder / "summary.json", Summary)
    rows = {}
    for model in summary.models:
        path = verdicts_at(run, model.name)
        rows[model.name] = read_jsonl(folder / path.relative_to(run.eval), TurnRow)
    return Results(
        label=label_,
        summary=summary,
        rows=rows,
        people={persona.id: persona for persona in people_of(run)},
        setting=dict(_setting(run, folder)),
    )


def _setting(run: RunFolder, folder: Path) -> Iterator[tuple[str, str]]:
    """Who played which role, and how replies were drawn, as far as it is recorded."""
    kept, told = run.root / "recipe.toml", run.eval / "evaluation.json"
    if not kept.exists():
        return
    recipe: Recipe = load_recipe(kept)
    prompts = read_json(told, Evaluation).prompts if told.exists() else {}
    roles = recipe.benchmark.roles or EnvironmentRoles()
    for name in _PLAYED:
        if name in ("user", "judge") or getattr(roles, name) is not None:
            yield name, judge_in_words(getattr(roles, name), prompts.get(name))
    yield "sampling", sampling_in_words(recipe.benchmark.sampling)
    if roles.user is not None:
        yield "checks", recipe.benchmark.checks.model_dump_json()
    if _is_rescored(folder):
        yield "judge", read_json(folder / "judge.json", JudgedAnew).judge
