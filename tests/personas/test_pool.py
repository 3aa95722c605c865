from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.errors import InputError
from interalign.llm.endpoint import EndpointConfig
from interalign.personas.description import KINDS, Description, Kind
from interalign.personas.filter import SemanticFilter
from interalign.personas.grow import CallRow, GrowConfig, Grown, Stop, grow_pool
from interalign.personas.persona import Persona
from interalign.personas.pool import (
    KindSummary,
    PersonalitiesConfig,
    PoolConfig,
    PoolSummary,
    ProfilesConfig,
    first_members,
    populate,
    read_start,
    refuse_too_many,
    summarise_pool,
)
from interalign.personas.seeds import seeds
from interalign.personas.split import SplitConfig
from interalign.personas.writer import persona_writer
from interalign.run import write_jsonl
from tests.personas.encoders import WordEncoder

CONFIG = PoolConfig(
    grow=GrowConfig(candidates=5, in_flight=2),
    profiles=ProfilesConfig(target=40, min_acceptance=0.07, window=4),
    personalities=PersonalitiesConfig(target=30, min_acceptance=0.02, window=3),
    split=SplitConfig(heldout_profiles=4, heldout_personalities=3, gate_profiles=0.95, gate_personalities=0.95),
)
SEEDS_ONLY = CONFIG.model_copy(
    update={"profiles": ProfilesConfig(target=20), "personalities": PersonalitiesConfig(target=20)}
)


def grown_by(config: PoolConfig) -> list[Grown]:
    return [
        asyncio.run(
            grow_pool(
                [Description(kind=kind, text=one.text, origin="seed") for one in seeds(kind)[:20]],
                persona_writer(),
                SemanticFilter(kind, WordEncoder(), 0.9),
                config.grow,
                config.profiles if kind == "profile" else config.personalities,
                seed=7,
            )
        )
        for kind in KINDS
    ]


def summary_of(grown: list[Grown], config: PoolConfig) -> PoolSummary:
    population = populate(grown[0].pool, grown[1].pool, WordEncoder(), config, 7)
    return summarise_pool(grown, population, config, generator="a model of 8B")


@pytest.fixture(scope="module")
def grown() -> list[Grown]:
    return grown_by(CONFIG)


@pytest.fixture(scope="module")
def summary(grown: list[Grown]) -> PoolSummary:
    return summary_of(grown, CONFIG)


def test_a_pool_in_figures(grown: list[Grown], summary: PoolSummary) -> None:
    assert (summary.generator, summary.scripted) == ("a model of 8B", True)
    assert [one.kind for one in summary.kinds] == ["profile", "personality"]
    assert [(one.min_acceptance, one.window) for one in summary.kinds] == [(0.07, 4), (0.02, 3)]
    assert summary.calls == sum(len(one.calls) for one in grown) > 0
    for one, pool in zip(summary.kinds, grown, strict=True):
        assert (one.seeds, one.size, one.stop) == (20, len(pool.pool), "target")
        assert one.calls == len(pool.calls)
        assert one.accepted + sum(one.rejections.values()) == one.candidates
        assert one.growth[0] == (0, 20) and one.growth[-1] == (one.candidates, one.size)
        assert one.last_candidates == 0
        assert one.followed and all(0 <= share <= 1 for share in one.followed.values())


def test_only_the_script_counts_as_scripted(grown: list[Grown]) -> None:
    server = EndpointConfig(base_url="http://127.0.0.1:8000/v1", model="some-model")
    assert not summary_of(grown, CONFIG.model_copy(update={"generator": server})).scripted


def test_where_nobody_was_asked_nobody_wrote() -> None:
    summary = summary_of(grown_by(SEEDS_ONLY), SEEDS_ONLY)
    assert (summary.calls, summary.generator) == (0, "nobody: all descriptions came from files")
    assert not summary.scripted
    assert [one.followed for one in summary.kinds] == [{}, {}]


def test_where_one_kind_was_asked_for_its_writer_is_named(grown: list[Grown]) -> None:
    summary = summary_of([grown_by(SEEDS_ONLY)[0], grown[1]], CONFIG)
    assert [one.calls for one in summary.kinds] == [0, len(grown[1].calls)]
    assert (summary.generator, summary.scripted) == ("a model of 8B", True)


def test_a_dimension_that_was_never_asked_for_is_left_out(grown: list[Grown]) -> None:
    asked = [row.model_copy(update={"asked": {"age": row.shows.get("age", "18-24")}}) for row in grown[0].candidates]
    followed = summary_of([grown[0].model_copy(update={"candidates": tuple(asked)}), grown[1]], CONFIG)
    assert list(followed.kinds[0].followed) == ["age"]


def with_calls(grown: list[Grown], kind: Kind, stop: Stop, *calls: tuple[int, int]) -> KindSummary:
    """The summary of a kind as if its calls had brought so many candidates, and so many new ones."""
    index, size = KINDS.index(kind), 20
    rows = []
    for number, (items, accepted) in enumerate(calls):
        size += accepted
        rows.append(CallRow(kind=kind, call=number, outcome="read", items=items, accepted=accepted, size=size))
    pools = list(grown)
    pools[index] = grown[index].model_copy(update={"calls": tuple(rows), "stop": stop})
    return summary_of(pools, CONFIG).kinds[index]


def test_the_last_candidates_are_those_that_met_the_rule(grown: list[Grown]) -> None:
    calls = ((5, 5), (5, 1), (5, 0), (4, 0), (0, 0), (6, 0), (5, 5), (5, 4))
    one = with_calls(grown, "profile", "saturated", *calls)
    assert one.last_candidates == 15  # of 5, 4, 0 and 6; two calls were in flight


@given(st.lists(st.integers(0, 5).flatmap(lambda items: st.tuples(st.just(items), st.integers(0, items))), max_size=12))
def test_the_rule_is_that_of_the_growth(summary: PoolSummary, calls: list[tuple[int, int]]) -> None:
    growth = [(0, 20)]
    for items, accepted in calls:
        growth.append((growth[-1][0] + items, growth[-1][1] + accepted))
    one = summary.kinds[1].model_copy(update={"growth": tuple(growth)})
    expected = 0
    for end in range(3, len(calls) + 1):
        items, accepted = (sum(numbers) for numbers in zip(*calls[end - 3 : end], strict=True))
        if items and accepted / items < 0.02:
            expected = items
            break
    assert one.last_candidates == expected


CALM, SHY = "She is calm.", "She is shy."
PEOPLE = [
    Persona(profile="She keeps bees.", personality=CALM),
    Persona(profile="She mends clocks.", personality=SHY),
    Persona(profile="She sails.", personality=SHY, split="heldout"),
]


def test_held_out_personas_and_what_they_share_with_others_start_no_pool(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "people.jsonl", PEOPLE)
    starts = [read_start(tmp_path / "people.jsonl", kind) for kind in KINDS]
    assert [[one.text for one in start.members] for start in starts] == [
        ["She keeps bees.", "She mends clocks."],
        [CALM],
    ]
    for start in starts:
        (problem,) = start.problems
        assert not problem.kept and problem.what.startswith("held-out personas") and problem.what.endswith(": 1")


def test_held_out_personas_alone_are_no_start(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "people.jsonl", PEOPLE[2:])
    with pytest.raises(InputError, match="no profiles but those of held-out personas"):
        read_start(tmp_path / "people.jsonl", "profile")


def test_a_seed_that_is_too_long_or_too_short_stays_and_is_named(tmp_path: Path) -> None:
    long, fit = "She keeps bees. " * 80, "She keeps bees. " * 20
    texts = (long, "She sails.", fit)
    write_jsonl(tmp_path / "profiles.jsonl", [Description(kind="profile", text=text) for text in texts])
    config = CONFIG.model_copy(update={"profiles": ProfilesConfig(seeds=str(tmp_path / "profiles.jsonl"))})
    start = first_members(config, "profile")
    assert tuple(one.text for one in start.members) == texts
    first, second = start.problems
    assert first.kept and "1,280 characters long, more than 1,200" in first.what
    assert second.kept and second.what == 'kept: "She sails." is 10 characters long, fewer than 120'


def test_seeds_that_repeat_others_are_named_in_one_line(tmp_path: Path) -> None:
    others = ["He sails.", "She mends clocks.", "She SAILS!", "she mends clocks", "they sail"]
    texts = ["She sails.", "She sails.", *others]
    write_jsonl(tmp_path / "profiles.jsonl", [Description(kind="profile", text=text) for text in texts])
    (problem,) = read_start(tmp_path / "profiles.jsonl", "profile").problems
    assert not problem.kept and problem.what == (
        "profiles that are another but for case, punctuation, name or gender: "
        '4 ("He sails."; "She SAILS!"; "she mends clocks", and others)'
    )


@pytest.mark.parametrize(("personas", "fits"), [(16 * 17, True), (16 * 17 + 1, False)])
def test_more_personas_than_pairs_are_refused(personas: int, fits: bool) -> None:
    split = CONFIG.split.model_copy(update={"personas": personas})
    config = SEEDS_ONLY.model_copy(update={"split": split, "profiles": ProfilesConfig(target=5)})
    starts = {kind: first_members(config, kind) for kind in KINDS}
    if fits:
        refuse_too_many(config, starts)
    else:
        with pytest.raises(InputError, match=r"to train on \(16 and 17\) have 272 pairs"):
            refuse_too_many(config, starts)


@pytest.mark.parametrize(("kind", "other"), [("profiles", "personalities"), ("personalities", "profiles")])
def test_a_pool_that_is_smaller_than_what_is_held_out_is_named(kind: str, other: str) -> None:
    with pytest.raises(ValidationError, match=f"30 {kind} cannot be .* of 30: lower split.heldout_{kind}"):
        PoolConfig.model_validate({kind: {"target": 30}, "split": {f"heldout_{kind}": 30, f"heldout_{other}": 1}})


def test_the_seeds_of_the_package_have_no_faults() -> None:
    for kind in KINDS:
        start = first_members(CONFIG, kind)
        assert len(start.members) == len(seeds(kind)) and (start.problems, start.notes) == ((), ())
