"""`interalign personas`: compose, grow, pair, audit, calibrate, convert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interalign.cli.console import (
    DEMO,
    IN_A_WORD,
    BaseUrl,
    BudgetInWords,
    Out,
    PriceFile,
    RecipeFile,
    ShowPrompts,
    checked_model,
    chosen_recipe,
    err,
    in_place_of,
    model_in_a_word,
    say,
    say_call,
    server_model,
    work_in,
)
from interalign.cli.pool_tables import show_audit, show_calibration, show_pool
from interalign.errors import InputError, LeakError
from interalign.report.growth import counted

if TYPE_CHECKING:
    from interalign.llm.account import Budget
    from interalign.llm.backends import ModelConfig
    from interalign.llm.encoder import Encoder
    from interalign.personas.description import Description, Kind
    from interalign.personas.exchange import Imported
    from interalign.recipe import Recipe

__all__ = ["personas"]

personas = typer.Typer(no_args_is_help=True, help="Make, grow, pair, audit and convert personas.")

_POOL = Path("runs/pool")
_FILES = frozenset({".arrow", ".csv", ".gz", ".json", ".ndjson", ".tsv", ".txt", ".xls", ".xlsx", ".zip"})
"""Endings of files that are not written. A dot alone makes no file of a name: aloe-v1.0 is a folder."""

Files = Annotated[
    list[Path], typer.Argument(help="JSONL, CSV, Parquet or text files, or Hugging Face dataset folders.")
]
OneKind = Annotated[
    str | None,
    typer.Option("--kind", help="What bare texts are: profile or personality. Default: the file's name tells."),
]
EncoderName = Annotated[
    str | None,
    typer.Option("--encoder", help="A sentence-transformers model: folder or hub name. Default: the offline one."),
]
PoolRecipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="TOML recipe. Default: the one in the run folder, else the paper's sizes."),
]
HeldoutProfiles = Annotated[
    int | None,
    typer.Option(
        "--heldout-profiles",
        min=0,
        help="Profiles kept out of training. Default: the recipe's, or 20. With 0 of both kinds nobody is held out.",
    ),
]
HeldoutPersonalities = Annotated[
    int | None,
    typer.Option("--heldout-personalities", min=0, help="The same for personalities. Default: the recipe's, or 8."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all of it to this file, too.")]


@personas.command()
def compose(folder: Out = DEMO, recipe: RecipeFile = None) -> None:
    """Compose the personas of the rule-based world: personas.jsonl and heldout.jsonl."""
    from interalign.pipeline import make_personas

    with work_in(folder, chosen_recipe(recipe, folder)) as work:
        make_personas(work)


@personas.command()
def grow(
    folder: Out = _POOL,
    recipe: PoolRecipe = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help=f"Who writes: {IN_A_WORD}; or the name of a model on the server of --base-url, the recipe or "
            "OPENAI_BASE_URL. Default: the recipe's, or a script.",
        ),
    ] = None,
    base_url: BaseUrl = None,
    profiles: Annotated[int | None, typer.Option("--profiles", min=1, help="Size of the pool of profiles.")] = None,
    personalities: Annotated[
        int | None, typer.Option("--personalities", min=1, help="Size of the pool of personalities.")
    ] = None,
    seed_profiles: Annotated[
        Path | None, typer.Option("--seed-profiles", help="File to start from. Default: the package's 20.")
    ] = None,
    seed_personalities: Annotated[Path | None, typer.Option("--seed-personalities", help="The same.")] = None,
    heldout_profiles: HeldoutProfiles = None,
    heldout_personalities: HeldoutPersonalities = None,
    encoder: EncoderName = None,
    budget: BudgetInWords = None,
    prices: PriceFile = None,
    show_prompts: ShowPrompts = False,
) -> None:
    """Grow a pool with a language model, filter it by meaning, split and pair it; the same command goes on."""
    from interalign.llm.account import Budget

    chosen = _with(
        recipe,
        folder,
        {
            "encoder": encoder,
            "profiles": _given(target=profiles, seeds=_text(seed_profiles)),
            "personalities": _given(target=personalities, seeds=_text(seed_personalities)),
            "split": _given(heldout_profiles=heldout_profiles, heldout_personalities=heldout_personalities),
        },
        model=model,
        base_url=base_url,
    )
    cap = Budget.parse(budget) if budget is not None else None
    if show_prompts:
        _show_calls(chosen)
    else:
        _grow(folder, chosen, cap, prices)


@personas.command()
def pair(
    profiles: Annotated[Path, typer.Argument(help="A file of profiles.")],
    personalities: Annotated[Path, typer.Argument(help="A file of personalities.")],
    folder: Out = _POOL,
    recipe: PoolRecipe = None,
    number: Annotated[
        int | None, typer.Option("--personas", min=1, help="Training personas, exactly. Default: ten a profile.")
    ] = None,
    heldout_profiles: HeldoutProfiles = None,
    heldout_personalities: HeldoutPersonalities = None,
    encoder: EncoderName = None,
) -> None:
    """Make personas from profiles and personalities that are there already: split with the gate, and paired."""
    from interalign.personas.filter import distinct
    from interalign.personas.pool import read_start

    # As the pool will read and filter them; it also says what is wrong with the files.
    sizes = {
        kind: len(distinct(read_start(path, kind).members)) for kind, path in _by_kind(profiles, personalities).items()
    }
    split = _given(personas=number, heldout_profiles=heldout_profiles, heldout_personalities=heldout_personalities)
    chosen = _with(
        recipe,
        folder,
        {
            "encoder": encoder,
            # A pool that starts at its target asks no model for anything.
            "profiles": {"target": sizes["profile"], "seeds": str(profiles)},
            "personalities": {"target": sizes["personality"], "seeds": str(personalities)},
            "split": split,
        },
    )
    _grow(folder, chosen)


@personas.command()
def audit(
    files: Files,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="Files that the others must not leak into; several times.")
    ] = None,
    kind: OneKind = None,
    encoder: EncoderName = None,
    gate_profiles: Annotated[
        float | None, typer.Option("--gate-profiles", min=0.01, max=1, help="Cosine from which profiles are too near.")
    ] = None,
    gate_personalities: Annotated[
        float | None, typer.Option("--gate-personalities", min=0.01, max=1, help="The same for personalities.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Find duplicates within files, or, with --against, what leaks from training files into test files (exit 6)."""
    from interalign.llm.offline import OFFLINE_ENCODER
    from interalign.personas.calibrate import calibrated
    from interalign.personas.split import audit as compare
    from interalign.run import write_json

    ours = _descriptions(files, _kind(kind))
    theirs = _descriptions(against, _kind(kind)) if against else None
    name = encoder or OFFLINE_ENCODER
    given: dict[Kind, float | None] = {"profile": gate_profiles, "personality": gate_personalities}
    # Within a file the question is that of the filter, across files that of the gate.
    side = 0 if theirs is None else 1
    gates: dict[Kind, float] = {}
    for one in {one.kind for one in ours}:
        border = given[one]
        gates[one] = calibrated(name, one)[side] if border is None else border
    with _encoding(name) as encoding:
        found = compare(ours, theirs, encoding, gates)
    if json is not None:
        write_json(json, found)
    show_audit(found)
    if theirs is not None and found.leaks:
        raise LeakError(
            f"{counted(found.leaks, 'description')} {'is' if found.leaks == 1 else 'are'} too near to the files that "
            "must not be leaked into.",
            mend="leave them out of training, or raise the gate if they are other people.",
        )


@personas.command()
def calibrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Descriptions of different people. Default: the rule-based world's.")
    ] = None,
    kind: OneKind = None,
    encoder: EncoderName = None,
    json: JsonFile = None,
) -> None:
    """Propose thresholds for a sentence encoder, from near-duplicates that are made on purpose."""
    from interalign.llm.offline import OFFLINE_ENCODER
    from interalign.personas.calibrate import calibrate as propose
    from interalign.personas.calibrate import different_people
    from interalign.personas.description import KINDS
    from interalign.personas.split import SplitConfig
    from interalign.run import write_json

    sizes = SplitConfig()
    given = _descriptions(files, _kind(kind)) if files else []
    with _encoding(encoder or OFFLINE_ENCODER) as encoding:
        found = [
            propose(
                one,
                [other.text for other in given if other.kind == one] or different_people(one),
                encoding,
                heldout=sizes.heldout_profiles if one == "profile" else sizes.heldout_personalities,
            )
            for one in KINDS
        ]
    if json is not None:
        write_json(json, found)
    for calibration in found:
        show_calibration(calibration)


@personas.command()
def convert(
    files: Files,
    target: Annotated[
        Path, typer.Option("--out", help="A .jsonl or .parquet file; any other name is a dataset folder with a card.")
    ],
    kind: OneKind = None,
    language: Annotated[
        str, typer.Option("--language", help="ISO 639 code of the texts, for the card of a dataset folder.")
    ] = "en",
) -> None:
    """Read persona files of any known form and write them as JSONL, Parquet or a Hugging Face dataset."""
    from interalign.personas.exchange import (
        write_dataset,
        write_descriptions_dataset,
        write_descriptions_parquet,
        write_personas_parquet,
    )
    from interalign.run import write_jsonl

    _refuse_target(target)
    read = [_imported(path, _kind(kind)) for path in files]
    people = [one for imported in read for one in imported.personas]
    descriptions = [one for imported in read for one in imported.descriptions]
    if people and descriptions:
        raise InputError("The files hold both personas and bare descriptions.", mend="convert them one by one.")
    facts = {"Converted from": ", ".join(path.name for path in files)}
    suffix = target.suffix.lower()
    if suffix == ".jsonl":
        write_jsonl(target, people or descriptions)
    elif suffix == ".parquet" and people:
        write_personas_parquet(target, people)
    elif suffix == ".parquet":
        write_descriptions_parquet(target, descriptions)
    elif people:
        write_dataset(target, people, facts, language)
    else:
        write_descriptions_dataset(target, descriptions, facts, language)
    say(f"{counted(len(people), 'persona') if people else counted(len(descriptions), 'description')}: {target}")


def _refuse_target(target: Path) -> None:
    suffix = target.suffix.lower()
    if suffix in _FILES:
        raise InputError(
            f"{target}: no {suffix} files are written.",
            mend="name a .jsonl or .parquet file, or a dataset folder (a name without such an ending).",
        )
    if suffix not in {".jsonl", ".parquet"} and target.exists() and (target.is_file() or any(target.iterdir())):
        raise InputError(f"{target} is there already.", mend="name a new folder: nothing is written over.")


def _grow(folder: Path, recipe: Recipe, budget: Budget | None = None, prices: Path | None = None) -> None:
    from interalign.pipeline.pool import grow_personas

    show_pool(grow_personas(recipe, folder, err, budget=budget, prices=prices))
    say(f"\nreport: {folder / 'pool.html'}")


def _show_calls(recipe: Recipe) -> None:
    from interalign.personas.description import KINDS, PLURALS
    from interalign.personas.filter import distinct
    from interalign.personas.grow import first_request
    from interalign.personas.pool import first_members

    config = recipe.pool
    for kind in KINDS:
        request = first_request(distinct(first_members(config, kind).members), config.grow, recipe.seed)
        say_call(PLURALS[kind], [(config.generator, 1)], request)


def _with(
    recipe: Path | None,
    folder: Path,
    changes: dict[str, Any],
    *,
    model: str | None = None,
    base_url: str | None = None,
) -> Recipe:
    """The chosen recipe with what the command line says of the pool; None and empty tables say nothing."""
    from interalign.recipe import Recipe, changed

    chosen = chosen_recipe(recipe, folder, Recipe(name="pool"))
    said = changes | {"generator": _generator(chosen.pool.generator, model, base_url)}
    return changed(chosen, {"pool": {key: value for key, value in said.items() if value}})


def _generator(before: ModelConfig, model: str | None, base_url: str | None) -> dict[str, Any] | None:
    if model is None and base_url is None:
        return None
    named = None if model is None or base_url is not None else model_in_a_word(model)
    is_folder = base_url is None and model is not None and Path(model).expanduser().is_dir()
    if named is not None:
        chosen = in_place_of([before], named)
    elif before.backend == "endpoint" and not is_folder:
        # What is left out stays as the recipe has it, with the key, the limits and the form of its server.
        chosen = checked_model(before.model_dump() | _given(base_url=base_url, model=model))
    elif model is None:
        raise InputError("--base-url names a server and no model.", mend="add --model NAME.")
    else:
        chosen = server_model(model, base_url)
    return chosen.model_dump(mode="json")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _by_kind(profiles: Path, personalities: Path) -> dict[Kind, Path]:
    return {"profile": profiles, "personality": personalities}


def _kind(name: str | None) -> Kind | None:
    from interalign.personas.description import KINDS

    for kind in KINDS:
        if name == kind:
            return kind
    if name is None:
        return None
    raise InputError(f"There is no kind {name!r}.", mend="use profile or personality.")


def _descriptions(paths: Sequence[Path], kind: Kind | None) -> list[Description]:
    from interalign.personas.split import halves

    found: list[Description] = []
    for path in paths:
        imported = _imported(path, kind)
        found += [*imported.descriptions, *halves(imported.personas)]
    return found


def _imported(path: Path, kind: Kind | None) -> Imported:
    from interalign.personas.exchange import read_pool
    from interalign.pipeline.pool import show_import

    imported = read_pool(path, kind)
    show_import(imported.problems, [f"{path}: {note}" for note in imported.notes], err, more_in=path)
    return imported


@contextmanager
def _encoding(name: str) -> Iterator[Encoder]:
    from interalign.llm.encoder import kept_encoder

    with kept_encoder(name) as encoder:
        yield encoder
