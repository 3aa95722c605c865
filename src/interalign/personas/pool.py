"""The persona pool as a whole: both kinds grown, split with the gate, paired; and what is to be told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from interalign.errors import InputError
from interalign.llm.backends import ModelConfig, ScriptedConfig
from interalign.llm.encoder import Encoder
from interalign.llm.offline import OFFLINE_ENCODER
from interalign.messages import Value
from interalign.personas.calibrate import calibrated
from interalign.personas.coverage import Coverage, measure_coverage
from interalign.personas.description import PLURALS, Description, Kind
from interalign.personas.exchange import Problem, read_pool
from interalign.personas.exchange.containers import shown
from interalign.personas.filter import Threshold, distinct
from interalign.personas.grow import GrowConfig, Grown, Stop, StopConfig
from interalign.personas.pairing import Pairing, pair
from interalign.personas.persona import Persona
from interalign.personas.projection import PoolMap
from interalign.personas.seeds import seeds
from interalign.personas.split import NearPair, Parted, SplitConfig, halves, hold_out
from interalign.personas.wellformed import FormConfig

__all__ = [
    "KindConfig",
    "KindSummary",
    "PersonalitiesConfig",
    "PoolConfig",
    "PoolMaps",
    "PoolSummary",
    "Population",
    "ProfilesConfig",
    "Start",
    "first_members",
    "gate",
    "populate",
    "read_start",
    "refuse_too_many",
    "sides",
    "summarise_pool",
    "threshold",
]

_TRAIN_EACH = 10
_HELDOUT_EACH = 5
"""Personalities that each profile is paired with, where the recipe does not say (as in the paper's release)."""
_REPEATS_SHOWN = 3
_NOBODY = "nobody: all descriptions came from files"


class KindConfig(StopConfig):
    """One of the two pools: where it starts and where it ends."""

    seeds: str | None = None
    """A file or folder with descriptions to start from (see `personas/exchange`); left out, the package's own."""
    threshold: Threshold | None = None
    """A candidate enters when its largest cosine to the pool is below it; left out, the calibrated one."""


class ProfilesConfig(KindConfig):
    """The pool of profiles."""

    target: Annotated[int, Field(ge=1)] = 351
    """331 to train on, as in the paper, and 20 held out."""


class PersonalitiesConfig(KindConfig):
    """The pool of personalities."""

    target: Annotated[int, Field(ge=1)] = 79
    """71 to train on, and 8 held out."""


class PoolConfig(Value):
    """How a pool of personas is grown, split and paired. The default sizes are the paper's."""

    generator: ModelConfig = ScriptedConfig()
    """The model that writes; the scripted one composes from the package's vocabularies."""
    encoder: Annotated[str, Field(min_length=1)] = OFFLINE_ENCODER
    """A sentence-transformers model: folder, hub name, or the offline encoder's name."""
    index: Literal["exact", "approximate"] = "exact"
    """How the nearest member is searched; approximate is for pools of hundreds of thousands."""
    grow: GrowConfig = GrowConfig()
    profiles: ProfilesConfig = ProfilesConfig()
    """Where the pool of profiles starts and ends."""
    personalities: PersonalitiesConfig = PersonalitiesConfig()
    """The same for personalities."""
    split: SplitConfig = SplitConfig()
    projection: Literal["pca", "umap"] = "pca"
    """How the map is drawn."""

    @model_validator(mode="after")
    def _check(self) -> PoolConfig:
        for name, held, pool in (
            ("profiles", self.split.heldout_profiles, self.profiles),
            ("personalities", self.split.heldout_personalities, self.personalities),
        ):
            if held >= pool.target:
                raise ValueError(
                    f"{held} {name} cannot be held out of a pool of {pool.target}: lower split.heldout_{name} "
                    f"(--heldout-{name}), or raise {name}.target (--{name} of grow)"
                )
        return self


def threshold(config: PoolConfig, kind: Kind) -> float:
    """The recipe's threshold for a kind, or the calibrated one; raises InputError where neither is known."""
    given = config.profiles.threshold if kind == "profile" else config.personalities.threshold
    return calibrated(config.encoder, kind)[0] if given is None else given


def gate(config: PoolConfig, kind: Kind) -> float:
    """The same for the gate between train and heldout."""
    given = config.split.gate_profiles if kind == "profile" else config.split.gate_personalities
    return calibrated(config.encoder, kind)[1] if given is None else given


class Start(Value):
    """What a pool starts from, and what is to be said of the file that it was read from."""

    members: tuple[Description, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """Each with the file that it is about."""


def first_members(config: PoolConfig, kind: Kind) -> Start:
    """What a pool starts from: the recipe's file, or the seeds of the package; raises as `read_start`."""
    path = (config.profiles if kind == "profile" else config.personalities).seeds
    if path is None:
        return Start(members=tuple(Description(kind=kind, text=one.text, origin="seed") for one in seeds(kind)))
    return read_start(Path(path), kind, config.grow.form)


def read_start(path: Path, kind: Kind, form: FormConfig | None = None) -> Start:
    """The descriptions of a file that a pool may start from.

    Held-out personas stay out, for a pool is shown to its generator and trained on; so does a description that they
    share with others. Those that repeat others are named, for the filter will not take them in; one that is shorter or
    longer than `form` has it stays and is named.

    Raises:
        InputError: the file cannot be used, or holds no such description of this kind.
    """
    imported = read_pool(path, kind)
    heldout = [one for one in imported.personas if one.split == "heldout"]
    apart = {one.id for one in halves(heldout)}
    both = (*imported.descriptions, *halves(imported.personas))
    members = [one for one in both if one.kind == kind and one.id not in apart]
    if not members:
        but = " but those of held-out personas, which a pool must not start from" if heldout else ""
        raise InputError(f"{path} holds no {PLURALS[kind]}{but}.", mend="give another file, or leave it out.")
    problems = [
        Problem(place=path.name, what=f"held-out personas, which would be trained on: {len(heldout):,}")
        for _ in heldout[:1]
    ]
    problems += _repeats(path, kind, members)
    unfit = _unfit(path, members, form) if form else []
    notes = tuple(f"{path}: {note}" for note in imported.notes)
    return Start(members=tuple(members), problems=(*problems, *imported.problems, *unfit), notes=notes)


def _repeats(path: Path, kind: Kind, members: Sequence[Description]) -> list[Problem]:
    # The reader counts what repeats to the letter.
    unlike = {one.id: one for one in members}
    for one in distinct(members):
        del unlike[one.id]
    repeats = list(unlike.values())
    if not repeats:
        return []
    texts = "; ".join(shown(one.text) for one in repeats[:_REPEATS_SHOWN])
    more = ", and others" if len(repeats) > _REPEATS_SHOWN else ""
    what = (
        f"{PLURALS[kind]} that are another but for case, punctuation, name or gender: {len(repeats):,} ({texts}{more})"
    )
    return [Problem(place=path.name, what=what)]


def _unfit(path: Path, members: Sequence[Description], form: FormConfig) -> list[Problem]:
    problems = []
    for one in members:
        length = len(one.text)
        if form.min_characters <= length <= form.max_characters:
            continue
        side = f"fewer than {form.min_characters:,}"
        if length > form.max_characters:
            side = f"more than {form.max_characters:,}"
        what = f"kept: {shown(one.text)} is {length:,} characters long, {side}"
        problems.append(Problem(place=path.name, what=what, kept=True))
    return problems


def refuse_too_many(config: PoolConfig, starts: Mapping[Kind, Start]) -> None:
    """Raise InputError when pools of these sizes have fewer pairs to train on than personas are asked for."""
    split = config.split
    profiles = max(config.profiles.target, len(distinct(starts["profile"].members))) - split.heldout_profiles
    personalities = (
        max(config.personalities.target, len(distinct(starts["personality"].members))) - split.heldout_personalities
    )
    possible = profiles * personalities
    if split.personas is not None and split.personas > possible:
        raise InputError(
            f"{split.personas:,} personas are asked for, but the profiles and personalities to train on "
            f"({profiles:,} and {personalities:,}) have {possible:,} pairs.",
            mend=f"ask for at most {possible:,} (--personas, pool.split.personas), or hold out fewer.",
        )


class Population(Value):
    """Personas, and the split and the pairing that they come from."""

    profiles: Parted
    personalities: Parted
    train: Pairing
    heldout: Pairing | None

    @property
    def personas(self) -> tuple[Persona, ...]:
        """Training personas, then held-out ones."""
        return (*self.train.personas, *(self.heldout.personas if self.heldout else ()))


def populate(
    profiles: Sequence[Description],
    personalities: Sequence[Description],
    encoder: Encoder,
    config: PoolConfig,
    seed: int,
) -> Population:
    """Hold out, gate and pair.

    Raises:
        InputError: a pool is too small for what is to be held out or paired.
    """
    split = config.split
    ours = hold_out(profiles, split.heldout_profiles, encoder, gate(config, "profile"), seed)
    others = hold_out(personalities, split.heldout_personalities, encoder, gate(config, "personality"), seed)
    heldout = None
    if ours.heldout and others.heldout:
        wanted = split.heldout or _HELDOUT_EACH * len(ours.heldout)
        exact = split.heldout is not None
        heldout = pair(ours.heldout, others.heldout, wanted, seed, split="heldout", exact=exact)
    wanted = split.personas or _TRAIN_EACH * len(ours.train)
    train = pair(ours.train, others.train, wanted, seed, split="train", exact=split.personas is not None)
    return Population(profiles=ours, personalities=others, train=train, heldout=heldout)


class PoolMaps(Value):
    """What the picture of a pool is drawn from."""

    maps: dict[Kind, PoolMap]
    sides: dict[str, str]
    """Description id to `train`, `heldout` or `refused`."""


def sides(population: Population) -> dict[str, str]:
    """On which side of the split each description ended, by its id."""
    where: dict[str, str] = {}
    for parted in (population.profiles, population.personalities):
        where |= {one.id: "train" for one in parted.train} | {one.id: "heldout" for one in parted.heldout}
        where |= {pair.id: "refused" for pair in parted.refused}
    return where


class KindSummary(Value):
    """One pool in figures."""

    kind: Kind
    size: int
    seeds: int
    seeds_too_similar: int
    """Seeds that the threshold would have kept out; they stay."""
    candidates: int
    """Asked for and read, seeds not among them."""
    accepted: int
    rejections: dict[str, int]
    outcomes: dict[str, int]
    """Calls by outcome."""
    missing: int
    """Descriptions that answers were short of what was asked."""
    prompt_tokens: int
    completion_tokens: int
    stop: Stop
    min_acceptance: float
    """The pool counts as saturated when less than this share of the last candidates was new."""
    window: int
    """Over how many calls that share is taken."""
    threshold: Threshold
    coverage: Coverage
    followed: dict[str, float]
    """By dimension: how often an accepted description shows the level that it was asked for. Dimensions that were never
    asked for are left out."""
    growth: tuple[tuple[int, int], ...]
    """(candidates so far, size of the pool) after each call: the saturation curve."""
    gate: Threshold
    heldout: int
    train: int
    refused: tuple[NearPair, ...]
    nearest: tuple[NearPair, ...]

    @property
    def calls(self) -> int:
        """How often the generator was asked; 0 where the pool was complete from the start."""
        return sum(self.outcomes.values())

    @property
    def last_candidates(self) -> int:
        """Candidates of the `window` calls after which the pool was first saturated; 0 where it never was.

        These need not be the very last calls: what was in flight then was finished.
        """
        for (asked, size), (asked_then, size_then) in zip(self.growth, self.growth[self.window :], strict=False):
            candidates, new = asked_then - asked, size_then - size
            if candidates and new / candidates < self.min_acceptance:
                return candidates
        return 0


class PoolSummary(Value):
    """What the report tells of a pool."""

    generator: str
    """Who wrote what was not there at the start."""
    scripted: bool
    """Whether that was the script, not a language model."""
    encoder: str
    kinds: tuple[KindSummary, ...]
    train: int
    heldout: int
    contradictions: int
    per_personality: tuple[int, int]
    """Training personas that share a personality: least, most."""
    per_profile: tuple[int, int]

    @property
    def calls(self) -> int:
        """How often the generator was asked, for both kinds; 0 where it wrote nothing."""
        return sum(one.calls for one in self.kinds)


def summarise_pool(
    grown: Sequence[Grown], population: Population, config: PoolConfig, *, generator: str
) -> PoolSummary:
    """The figures of a pool and of the personas made from it.

    Args:
        grown: The two pools, profiles first.
        population: What became of them.
        config: By which they were grown.
        generator: Who writes, in words. A generator that was never asked is not named.
    """
    asked = any(one.calls for one in grown)
    kinds = (
        _summarise(grown[0], population.profiles, config.profiles),
        _summarise(grown[1], population.personalities, config.personalities),
    )
    return PoolSummary(
        generator=generator if asked else _NOBODY,
        scripted=asked and isinstance(config.generator, ScriptedConfig),
        encoder=grown[0].encoder,
        kinds=kinds,
        train=len(population.train.personas),
        heldout=len(population.heldout.personas) if population.heldout else 0,
        contradictions=population.train.contradictions,
        per_personality=population.train.per_personality,
        per_profile=population.train.per_profile,
    )


def _summarise(grown: Grown, parted: Parted, rule: StopConfig) -> KindSummary:
    asked_for = [row for row in grown.candidates if row.call is not None]
    kept = [row for row in grown.candidates if row.call is None and row.verdict == "seed"]
    growth: list[tuple[int, int]] = [(0, len(kept))]
    for call in grown.calls:
        growth.append((growth[-1][0] + call.items, call.size))
    return KindSummary(
        kind=grown.kind,
        size=len(grown.pool),
        seeds=len(kept),
        seeds_too_similar=sum(row.reason == "too similar" for row in kept),
        candidates=len(asked_for),
        accepted=sum(row.verdict == "accepted" for row in asked_for),
        rejections=dict(Counter(row.reason for row in asked_for if row.reason is not None).most_common()),
        outcomes=dict(Counter(call.outcome for call in grown.calls).most_common()),
        missing=sum(call.missing for call in grown.calls),
        prompt_tokens=sum(call.prompt_tokens for call in grown.calls),
        completion_tokens=sum(call.completion_tokens for call in grown.calls),
        stop=grown.stop,
        min_acceptance=rule.min_acceptance,
        window=rule.window,
        threshold=grown.threshold,
        coverage=measure_coverage(grown.kind, [one.text for one in grown.pool]),
        followed=_followed(grown),
        growth=tuple(growth),
        gate=parted.gate,
        heldout=len(parted.heldout),
        train=len(parted.train),
        refused=parted.refused,
        nearest=parted.nearest,
    )


def _followed(grown: Grown) -> dict[str, float]:
    hits: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for row in grown.candidates:
        if row.verdict == "accepted":
            wanted.update(row.asked.keys())
            hits.update(name for name, level in row.asked.items() if row.shows.get(name) == level)
    return {name: hits[name] / count for name, count in wanted.items()}
