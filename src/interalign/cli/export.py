"""`interalign export`: data sets from conversation trees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.console import DEMO, Out, err, escaped, say
from interalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interalign.conversations.tree import Tree
    from interalign.personas.persona import Persona
    from interalign.run import RunFolder

__all__ = ["export"]


def export(
    target: Annotated[Path, typer.Argument(help="Folder for the data set; it must not be there yet.")],
    folder: Out = DEMO,
    form: Annotated[
        str, typer.Option("--form", help="dpo, sft, kto, reward, trajectory, or aloe (the published format).")
    ] = "dpo",
    aloe: Annotated[
        Path | None, typer.Option("--aloe", help="Conversations in the published ALOE format, in place of a run's.")
    ] = None,
    min_margin: Annotated[
        float | None, typer.Option("--min-margin", min=0, help="Smallest difference of scores that counts.")
    ] = None,
    length_match: Annotated[
        float | None,
        typer.Option("--length-match", min=0, help="Largest share of words by which a reply may be longer."),
    ] = None,
    keep_inconsistent: Annotated[
        bool, typer.Option("--keep-inconsistent", help="Keep pairs on which the two orders of the judge disagree.")
    ] = False,
) -> None:
    """Write a run's trees as a data set that `datasets.load_dataset` and TRL load as it is, with a card."""
    from pydantic import ValidationError

    from interalign.conversations.export import FORMS, write_export
    from interalign.conversations.preferences import PreferenceConfig
    from interalign.recipe import load_recipe
    from interalign.run import RunFolder

    known = next((one for one in FORMS if one == form), None)
    if known is None:
        raise InputError(f"There is no form {form!r}.", mend=f"use one of: {', '.join(FORMS)}.")
    run = RunFolder(folder)
    kept = folder / "recipe.toml"
    config = load_recipe(kept).preferences if kept.exists() and aloe is None else PreferenceConfig(min_margin=0)
    said = {"min_margin": min_margin, "length_match": length_match}
    changes = {key: value for key, value in said.items() if value is not None}
    if keep_inconsistent:
        changes["drop_inconsistent"] = False
    try:
        config = PreferenceConfig.model_validate(config.model_dump() | changes)
    except ValidationError as error:
        # Only what is no number, or no end, has passed the bounds of the options.
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise InputError(f"--{option}: {first['msg']}.", mend="give a number.") from None
    trees, people = _of_run(run) if aloe is None else _of_aloe(aloe)
    rows = write_export(target, known, trees, people, config, _facts(run, aloe))
    said_rows = ", ".join(f"{count:,} rows ({split})" for split, count in rows.items())
    say(f"{said_rows}: {target}")


def _of_run(run: RunFolder) -> tuple[Sequence[Tree], Sequence[Persona]]:
    from interalign.conversations.tree import Tree
    from interalign.personas.persona import Persona
    from interalign.run import read_jsonl

    return read_jsonl(run.trees, Tree), read_jsonl(run.personas, Persona)


def _of_aloe(path: Path) -> tuple[Sequence[Tree], Sequence[Persona]]:
    from interalign.conversations.export import read_aloe

    read = read_aloe(path)
    for note in read.notes:
        err.print(f"[dim]{escaped(note)}[/dim]", highlight=False, soft_wrap=True)
    return read.trees, read.personas


def _facts(run: RunFolder, aloe: Path | None) -> dict[str, str]:
    from interalign.pipeline.simulate import Simulation
    from interalign.recipe import load_recipe
    from interalign.run import read_json
    from interalign.training.checkpoint import installed_versions

    facts = {"interalign": installed_versions()["interalign"]}
    if aloe is not None:
        return facts | {"Read from": aloe.name}
    kept, told = run.root / "recipe.toml", run.root / "simulation.json"
    if kept.exists():
        recipe = load_recipe(kept)
        facts |= {"Recipe": recipe.name, "Seed": str(recipe.seed)}
    if told.exists():
        hashes = read_json(told, Simulation).prompts
        facts |= {f"prompt {name}": digest for name, digest in hashes.items()}
    return facts
