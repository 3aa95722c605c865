"""Held-out personas first, and a gate: what is too near to them is not trained on.

The split is made on both halves of a persona. A training persona that shared its personality with a held-out one would
show the model half of the test, so profiles and personalities are held out each by themselves, and a description that
is as near as the gate to a held-out one goes to neither side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated

from pydantic import Field, model_validator

from interalign.errors import InputError
from interalign.llm.encoder import Encoder
from interalign.messages import Value
from interalign.personas.description import KINDS, Description, Kind
from interalign.personas.filter import Screening, SemanticFilter, Threshold
from interalign.personas.persona import Persona
from interalign.run import derive_seed

__all__ = ["Audit", "KindAudit", "NearPair", "Parted", "SplitConfig", "audit", "halves", "hold_out"]

_SHOWN = 5


class SplitConfig(Value):
    """How many personas are held out, and how many are trained on. The defaults are the paper's sizes."""

    heldout_profiles: Annotated[int, Field(ge=0)] = 20
    """0, here and below, holds nobody out."""
    heldout_personalities: Annotated[int, Field(ge=0)] = 8
    heldout: Annotated[int, Field(ge=2)] | None = None
    """Held-out personas, exactly; left out, five for each held-out profile (the paper: 100 from 20)."""
    personas: Annotated[int, Field(ge=1)] | None = None
    """Training personas, exactly; left out, ten for each training profile (the paper: 3,310 from 331)."""
    gate_profiles: Threshold | None = None
    """A training profile as near as this to a held-out one is refused; left out, the calibrated gate of the encoder."""
    gate_personalities: Threshold | None = None
    """The same for personalities."""

    @model_validator(mode="after")
    def _check(self) -> SplitConfig:
        if bool(self.heldout_profiles) != bool(self.heldout_personalities):
            raise ValueError(
                "a held-out persona needs a profile and a personality: "
                "heldout_profiles and heldout_personalities are both 0, or neither is"
            )
        return self


class NearPair(Value):
    """Two descriptions and the cosine of their masked texts, which is None where only words were compared."""

    id: str
    """Of ours."""
    score: float | None
    ours: str
    theirs: str
    why: str | None = None
    """What makes them too near, if they are."""


class Parted(Value):
    """One kind of description, split."""

    kind: Kind
    gate: Threshold
    heldout: tuple[Description, ...]
    train: tuple[Description, ...]
    refused: tuple[NearPair, ...]
    """What the gate kept from training, each with the held-out description it is near to."""
    nearest: tuple[NearPair, ...]
    """The nearest pairs of train and heldout that are left, nearest first."""


def hold_out(descriptions: Sequence[Description], count: int, encoder: Encoder, gate: float, seed: int) -> Parted:
    """Hold out `count` descriptions drawn by seed, and refuse those of the rest that the gate finds too near to them.

    A personality will be told with the pronouns of the profile that it is paired with; since gender is masked in
    comparing, the gate holds for all these tellings.

    Raises:
        InputError: nothing would be left to train on.
    """
    if count >= len(descriptions):
        raise InputError(
            f"{count} of {len(descriptions)} descriptions cannot be held out: none would be left to train on.",
            mend="grow a larger pool, or hold out fewer.",
        )
    kind = descriptions[0].kind
    chosen = set(Random(derive_seed(seed, "heldout", kind)).sample(range(len(descriptions)), count))
    heldout = [one for index, one in enumerate(descriptions) if index in chosen]
    rest = [one for index, one in enumerate(descriptions) if index not in chosen]
    pairs = _nearest_heldout(heldout, rest, encoder, gate)
    train = tuple(one for one, pair in zip(rest, pairs, strict=True) if pair.why is None)
    if not train:
        raise InputError(
            f"Every {kind} is as near as {gate:g} to a held-out one.", mend="raise the gate, or hold out fewer."
        )
    return Parted(
        kind=kind,
        gate=gate,
        heldout=tuple(heldout),
        train=train,
        refused=tuple(pair for pair in pairs if pair.why is not None),
        nearest=_nearest([pair for pair in pairs if pair.why is None]),
    )


class KindAudit(Value):
    """What an audit finds in one kind of description."""

    kind: Kind
    gate: Threshold
    ours: int
    """How many are audited."""
    theirs: int | None
    """How many they are held against; None when they are held against themselves."""
    same_text: int
    name_or_gender_only: int
    too_similar: int
    nearest: tuple[NearPair, ...]
    """All that are too near, or more where these are few; nearest first."""

    @property
    def leaks(self) -> int:
        """Descriptions that are too near, for whatever reason."""
        return self.same_text + self.name_or_gender_only + self.too_similar


class Audit(Value):
    """What is too near to what, by kind; `against` is False when files were held against themselves."""

    encoder: str
    against: bool
    kinds: tuple[KindAudit, ...]

    @property
    def leaks(self) -> int:
        """Descriptions that are too near, for whatever reason."""
        return sum(one.leaks for one in self.kinds)


def audit(
    ours: Sequence[Description],
    theirs: Sequence[Description] | None,
    encoder: Encoder,
    gates: Mapping[Kind, float],
) -> Audit:
    """Hold descriptions against others, or, with None, each against those before it.

    Raises:
        InputError: the two sides have no kind in common.
    """
    found = []
    for kind in KINDS:
        mine = [one for one in ours if one.kind == kind]
        others = None if theirs is None else [one for one in theirs if one.kind == kind]
        if mine and others != []:
            found.append(_audit_kind(kind, mine, others, encoder, gates[kind]))
    if not found:
        raise InputError(
            "The two sides have no kind of description in common.", mend="check the files, or give --kind."
        )
    return Audit(encoder=encoder.name, against=theirs is not None, kinds=tuple(found))


def halves(personas: Sequence[Persona]) -> list[Description]:
    """The profiles and personalities of personas, each text once, for personas share them."""
    by_id: dict[str, Description] = {}
    for persona in personas:
        for one in (
            Description(kind="profile", text=persona.profile),
            Description(kind="personality", text=persona.personality),
        ):
            by_id.setdefault(one.id, one)
    return list(by_id.values())


def _audit_kind(
    kind: Kind, ours: Sequence[Description], theirs: Sequence[Description] | None, encoder: Encoder, gate: float
) -> KindAudit:
    if theirs is None:
        filter_ = SemanticFilter(kind, encoder, gate)
        screenings = filter_.keep(ours, repeats=True)
        texts = {one.id: one.text for one in ours}
    else:
        screenings, texts = _against(kind, theirs, ours, encoder, gate)
    pairs = [_near(one, screening, texts) for one, screening in zip(ours, screenings, strict=True)]
    why = [pair.why for pair in pairs]
    return KindAudit(
        kind=kind,
        gate=gate,
        ours=len(ours),
        theirs=None if theirs is None else len(theirs),
        same_text=why.count("same text"),
        name_or_gender_only=why.count("differs in name or gender only"),
        too_similar=why.count("too similar"),
        nearest=_nearest(pairs, all_too_near=True),
    )


def _against(
    kind: Kind, members: Sequence[Description], others: Sequence[Description], encoder: Encoder, gate: float
) -> tuple[list[Screening], dict[str, str]]:
    filter_ = SemanticFilter(kind, encoder, gate)
    # Of two that differ in name or gender only, one may be farther from a third than the other.
    filter_.keep(members, repeats=True)
    return filter_.compare(others), {one.id: one.text for one in members}


def _near(one: Description, screening: Screening, texts: Mapping[str, str]) -> NearPair:
    theirs = texts.get(screening.nearest or "", "")
    return NearPair(id=one.id, score=screening.score, ours=one.text, theirs=theirs, why=screening.duplicate)


def _nearest_heldout(
    heldout: Sequence[Description], rest: Sequence[Description], encoder: Encoder, gate: float
) -> list[NearPair]:
    """For each of the rest the nearest held-out description."""
    if not heldout:
        return [NearPair(id=one.id, score=None, ours=one.text, theirs="") for one in rest]
    screenings, texts = _against(rest[0].kind, heldout, rest, encoder, gate)
    return [_near(one, screening, texts) for one, screening in zip(rest, screenings, strict=True)]


def _distance(pair: NearPair) -> tuple[bool, float]:
    # The same words are nearer than any cosine.
    return pair.why not in ("same text", "differs in name or gender only"), -(pair.score or 0)


def _nearest(pairs: Sequence[NearPair], *, all_too_near: bool = False) -> tuple[NearPair, ...]:
    ranked = [pair for pair in sorted(pairs, key=_distance) if pair.theirs]
    shown = max(_SHOWN, sum(pair.why is not None for pair in ranked)) if all_too_near else _SHOWN
    return tuple(ranked[:shown])
