from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interalign.errors import StorageError
from interalign.personas.description import Description, Kind
from interalign.personas.grow import CandidateRow, Stop
from interalign.personas.pool import KindSummary, PoolMaps
from interalign.report.growth import rejections
from interalign.report.pool import PoolPage, pool_island, render, write
from tests.report.elements import Elements
from tests.report.made_up_pool import pool

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>-->{{7*7}}\u2028\u2029\"'&amp;"


def changed(made: PoolPage, kind: Kind, **values: Any) -> PoolPage:
    """The pool with other figures of one kind."""
    kinds = tuple(one.model_copy(update=values) if one.kind == kind else one for one in made.summary.kinds)
    return replace(made, summary=made.summary.model_copy(update={"kinds": kinds}))


@pytest.fixture(scope="module")
def made() -> PoolPage:
    return pool()


@pytest.fixture(scope="module")
def elements(made: PoolPage) -> Elements:
    return Elements(render(made))


def test_the_page_begins_with_what_came_of_it(elements: Elements) -> None:
    words = elements.words("finding")
    assert words.startswith("60 profiles and 24 personalities; 3,310 personas to train on, 100 held out")
    assert "written by a-model-of-8B." in words
    assert "below 0.71 (profiles) and 0.8 (personalities), under the encoder all-MiniLM-L6-v2, " in words
    assert "part of 10 training personas, each personality of 46 to 47. 1,204 pairs" in words
    assert "No language model" not in words


def test_the_numbers_are_the_summarys(made: PoolPage, elements: Elements) -> None:
    for one in made.summary.kinds:
        for levels, unstated in zip(one.coverage.counts.values(), one.coverage.unstated.values(), strict=True):
            bars = " ".join(f"{level} {count}" for level, count in levels.items())
            assert f"{bars} not stated {unstated}" in elements.words("coverage")
        candidates = elements.words("candidates")
        assert f"{one.candidates} candidates from {sum(one.outcomes.values())} calls" in candidates
        assert f"accepted {one.accepted} " in candidates
        assert all(f"{reason} {count} " in candidates for reason, count in rejections(one).items())
        assert all(f"Calls {outcome} {count} " in candidates for outcome, count in one.outcomes.items())
        assert f"Missing in answers {one.missing} Tokens read {one.prompt_tokens:,} " in candidates
        assert f"Tokens written {one.completion_tokens:,}" in candidates
        sides = f"To train on {one.train} Held out {one.heldout} Refused {len(one.refused)} Gate, cosine {one.gate}"
        assert sides in elements.words("heldout")


def test_the_nearest_pairs_stand_with_both_texts_and_their_cosine(made: PoolPage, elements: Elements) -> None:
    words = elements.words("heldout")
    for one in made.summary.kinds:
        assert one.nearest and one.refused
        for pair in (*one.nearest, *one.refused):
            score = "\N{EN DASH}" if pair.score is None else f"{pair.score:.3f}"
            label = f"{pair.why} refused" if pair.why else "to train on"
            assert f"cosine {score} {label} {pair.ours} held out {pair.theirs}" in words


def test_shares_add_up_and_never_round_to_nothing(made: PoolPage) -> None:
    rare = changed(made, "profile", candidates=1000, accepted=996, rejections={"too similar": 3, "too short": 1})
    words = Elements(render(rare)).words("candidates").replace("\N{NO-BREAK SPACE}", " ")
    assert "accepted 996 99.6 %" in words and "too similar 3 0.3 %" in words and "too short 1 0.1 %" in words


def test_what_found_no_room_was_not_rejected(made: PoolPage) -> None:
    one = changed(made, "profile", candidates=10, accepted=6, rejections={"target reached": 2, "too short": 2})
    words = Elements(render(one)).words("candidates").replace("\N{NO-BREAK SPACE}", " ")
    assert "2 candidates found no room, since the target was reached, and are not among those below." in words
    assert "accepted 6 75 %" in words and "too short 2 25 %" in words and "target reached 2" not in words
    listed = [row["reason"] for kind in pool_island(made)["kinds"] for row in kind["rejected"]]
    assert "too similar" in listed and "target reached" not in listed
    assert any(row.reason == "target reached" for row in made.candidates)


def test_what_is_undefined_is_a_dash(made: PoolPage) -> None:
    one = made.summary.kinds[0]
    nothing = dict.fromkeys(one.coverage.counts["household"], 0)
    coverage = one.coverage.model_copy(
        update={
            "counts": one.coverage.counts | {"household": nothing},
            "evenness": one.coverage.evenness | {"household": None},
        }
    )
    text = Elements(render(changed(made, "profile", coverage=coverage, followed={}))).text
    assert "household evenness \N{EN DASH} followed \N{EN DASH} alone 0" in text
    assert "some description shows: \N{EN DASH}" in text  # of personalities
    assert "None" not in text and "nan" not in text.split()


def test_a_scripted_pool_says_plainly_that_no_model_wrote_it() -> None:
    words = Elements(render(pool(scripted=True))).words("finding")
    assert "No language model wrote these descriptions." in words
    assert "were written by" not in words


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        ("target", "because their target of 60 was reached."),
        ("saturated", "because fewer than 20 % of the last 100 candidates were new."),
        ("budget", "because the budget was spent, with 11 calls and 219,226 tokens."),
        ("unreadable", "because nothing in the last answers could be read."),
    ],
)
def test_why_growth_ended_stands_in_words(made: PoolPage, stop: Stop, sentence: str) -> None:
    assert sentence in Elements(render(changed(made, "profile", stop=stop))).words("finding")


def test_saturation_is_told_by_its_rule_and_the_candidates_that_met_it(made: PoolPage) -> None:
    # Ten calls bring 20 candidates each, of which 5 are new, then ten bring 18 and none. The last three were in flight
    # when the pool was found to be saturated.
    growth = [(0, 20)]
    for asked, new in [(20, 5)] * 10 + [(18, 0)] * 10 + [(7, 7)] * 3:
        growth.append((growth[-1][0] + asked, growth[-1][1] + new))
    rule = {"stop": "saturated", "min_acceptance": 0.025, "window": 10, "growth": tuple(growth)}
    words = Elements(render(changed(made, "profile", **rule))).words("finding")
    assert "because fewer than 2.5 % of the last 180 candidates were new." in words


def complete(made: PoolPage, *kinds: Kind) -> PoolPage:
    """The pool as if these kinds had been complete from the start."""
    for kind in kinds:
        made = changed(
            made, kind, candidates=0, accepted=0, rejections={}, outcomes={}, growth=((0, 20),), seeds=20, size=20
        )
    return replace(made, candidates=[], maps=PoolMaps(maps={}, sides={}))


def test_a_pool_that_nobody_grew_says_so(made: PoolPage) -> None:
    elements = Elements(render(complete(made, "profile")))
    assert "The pool of profiles was complete from the start, with 20 descriptions." in elements.words("finding")
    assert "The personalities grew from" in elements.words("finding")
    assert "written by a-model-of-8B." in elements.words("finding")
    assert "No map was drawn of the profiles." in elements.words("map")
    assert "Rejected candidates" not in elements.text
    assert elements.words("candidates").count("accepted") == 1
    assert elements.words("coverage").count("followed") == len(made.summary.kinds[1].coverage.counts)
    assert sum(attributes.get("class") == "figure growth" for _, attributes in elements.tags) == 1


def test_where_no_kind_grew_nobody_is_said_to_have_written(made: PoolPage) -> None:
    nobody = complete(made, "profile", "personality")
    elements = Elements(render(replace(nobody, facts={"Written by": nobody.summary.generator})))
    words = elements.words("finding")
    assert words.count("was complete from the start") == 2
    assert "written by" not in words and "No language model" not in words and "A script" not in words
    labels = [value for _, attributes in elements.tags if (value := attributes.get("aria-label"))]
    assert not any("grew from" in label or "stopped" in label for label in labels)
    assert not {"growth", "candidates"} & elements.sections.keys()
    assert not any(attributes.get("href") in ("#growth", "#candidates") for _, attributes in elements.tags)
    assert "ollowed" not in elements.text and "andidate enters" not in elements.text


def test_hostile_text_stays_text_everywhere() -> None:
    made = pool(hostile=HOSTILE)
    elements = Elements(render(replace(made, title="A pool" + HOSTILE, facts={"Recipe" + HOSTILE: HOSTILE})))
    assert len(elements.scripts) == 3
    assert not any(tag == "img" for tag, _ in elements.tags)
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert "{{7*7}}" in elements.text and "-->49" not in elements.text
    island = json.loads(elements.scripts[0])
    assert island["texts"] and all(text.endswith(HOSTILE) for text in island["texts"])


def test_points_carry_text_side_origin_and_levels(made: PoolPage) -> None:
    island = pool_island(made)
    rows = {row.id: row for row in made.candidates}
    for data, one in zip(island["kinds"], made.summary.kinds, strict=True):
        by_text = {each.text: each for each in made.pools if each.kind == one.kind}
        assert len(data["points"]) == len(by_text) == data["allPoints"]
        for point in data["points"]:
            member = by_text[island["texts"][int(str(point["text"]))]]
            assert (point["x"], point["y"]) == made.maps.maps[one.kind].places[member.id]
            assert (point["side"], point["origin"]) == (made.maps.sides[member.id], member.origin)
            assert point["score"] == rows[member.id].score
            shows = {
                name: list(levels)[int(str(level))]
                for (name, levels), level in zip(one.coverage.counts.items(), as_list(point["levels"]), strict=True)
                if level is not None
            }
            assert shows == rows[member.id].shows


def as_list(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value


def test_a_description_without_a_row_is_read_anew(made: PoolPage) -> None:
    words = "She is 34 years old and lives alone in Lyon, where she works as a nurse."
    imported = Description(kind="profile", text=words)
    where = made.maps.maps["profile"].model_copy(update={"places": {imported.id: (0.0, 0.0)}})
    lone = replace(made, pools=[imported], candidates=[], maps=PoolMaps(maps={"profile": where}, sides={}))
    one: KindSummary = made.summary.kinds[0]
    (point,) = pool_island(lone)["kinds"][0]["points"]
    age = list(one.coverage.counts).index("age")
    assert as_list(point["levels"])[age] == list(one.coverage.counts["age"]).index("25-34")
    assert point["side"] is None and point["score"] is None


def rejected_of(made: PoolPage, kind: Kind) -> list[CandidateRow]:
    rows = [row for row in made.candidates if row.kind == kind and row.verdict == "rejected"]
    return [row for row in rows if row.reason != "target reached"]


def test_rejected_candidates_stand_beside_their_nearest(made: PoolPage) -> None:
    island = pool_island(made)
    texts = {one.id: one.text for one in made.pools}
    for data, one in zip(island["kinds"], made.summary.kinds, strict=True):
        rows = rejected_of(made, one.kind)
        assert len(data["rejected"]) == data["allRejected"] == sum(rejections(one).values()) == len(rows)
        for shown, row in zip(data["rejected"], rows, strict=True):
            assert (shown["reason"], shown["score"]) == (row.reason, row.score)
            assert island["texts"][int(str(shown["text"]))] == row.text
            nearest = shown["nearest"]
            assert (None if nearest is None else island["texts"][int(str(nearest))]) == texts.get(row.nearest or "")


def test_seeds_that_repeat_each_other_are_no_candidates(made: PoolPage) -> None:
    repeated = made.candidates[0].model_copy(update={"verdict": "rejected", "reason": "same text"})
    more = replace(made, candidates=[repeated, *made.candidates])
    assert pool_island(more) == pool_island(made)


def test_a_large_pool_is_drawn_evenly_and_the_page_says_so(made: PoolPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interalign.report.pool.MOST_PLACES", 50)
    monkeypatch.setattr("interalign.report.pool.MOST_REJECTED", 30)
    profiles, personalities = pool_island(made)["kinds"]
    assert (len(profiles["points"]), len(personalities["points"])) == (26, 24)  # what one leaves, the other gets
    assert (len(profiles["rejected"]), len(personalities["rejected"])) == (15, 15)
    sides = [point["side"] for point in profiles["points"]]
    assert sides.count("heldout") == 6 and sides.count("refused") == 2
    elements = Elements(render(made))
    assert "26 of 60 are drawn, evenly; half of the room is kept" in elements.words("map")
    assert "24 of 24" not in elements.words("map")
    assert "30 of 175 are listed, drawn evenly" in elements.words("candidates")


def test_many_held_out_leave_half_of_the_map_to_the_others(made: PoolPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interalign.report.pool.MOST_PLACES", 20)
    aside = {key: "heldout" for key in list(made.maps.sides)[::2]}
    maps = made.maps.model_copy(update={"sides": made.maps.sides | aside})
    for data in pool_island(replace(made, maps=maps))["kinds"]:
        sides = [point["side"] for point in data["points"]]
        assert len(sides) == 10 and sides.count("train") == 5


def test_what_is_drawn_reaches_from_the_first_to_the_last(made: PoolPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interalign.report.pool.MOST_REJECTED", 20)
    shown = pool_island(made)
    rows = [row.text for row in rejected_of(made, "profile")]
    places = [rows.index(shown["texts"][int(str(row["text"]))]) for row in shown["kinds"][0]["rejected"]]
    assert places == [len(rows) * place // 10 for place in range(10)]


def test_no_text_stands_twice_and_long_ones_are_cut_with_a_mark() -> None:
    texts = pool_island(pool(hostile="x" * 3_000))["texts"]
    assert len(set(texts)) == len(texts)
    assert all(re.fullmatch(r".{1500} \[\.\.\. 1,[0-9]{3} more characters\]", text) for text in texts)


def test_the_page_asks_nothing_of_the_network(elements: Elements) -> None:
    links = [
        value
        for _, attributes in elements.tags
        for name, value in attributes.items()
        if name in {"src", "href", "action", "poster", "srcset", "data"}
    ]
    assert links
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)


def test_every_link_within_the_page_leads_somewhere(elements: Elements) -> None:
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in elements.tags:
        if tag == "a":
            assert (attributes["href"] or "").removeprefix("#") in ids


def test_the_policy_knows_the_scripts_that_stand_in_the_page(elements: Elements) -> None:
    policy = next(attributes["content"] for _, attributes in elements.tags if "http-equiv" in attributes)
    assert policy is not None and policy.startswith("default-src 'none';")
    for script in elements.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_script_never_writes_markup(elements: Elements) -> None:
    banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    assert not re.search(banned, elements.scripts[2])


def test_half_a_surrogate_pair_does_not_cost_the_page(made: PoolPage) -> None:
    render(replace(made, title="\ud83d", facts={"Recipe": "\udce9.toml"})).encode()


def test_a_page_is_written_whole_or_not_at_all(made: PoolPage, tmp_path: Path) -> None:
    path = tmp_path / "pool.html"
    write(path, made)
    assert path.read_text(encoding="utf-8") == render(made)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StorageError):
        write(path / "inside", made)
