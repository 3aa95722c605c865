from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interalign.errors import StorageError
from interalign.report.simulation import SimulationPage, render, simulation_island, write
from interalign.report.simulation_summary import Reason, summarise_simulation
from tests.report.elements import Elements
from tests.report.made_up_simulation import hygiene, roles, simulation, usage

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>-->{{7*7}}\u2028\u2029\"'&amp;"


def changed(made: SimulationPage, **values: Any) -> SimulationPage:
    """The simulation with other numbers."""
    return replace(made, summary=made.summary.model_copy(update=values))


@pytest.fixture(scope="module")
def made() -> SimulationPage:
    return simulation()


@pytest.fixture(scope="module")
def elements(made: SimulationPage) -> Elements:
    return Elements(render(made))


def test_the_page_begins_with_what_came_of_it(made: SimulationPage, elements: Elements) -> None:
    words, summary = elements.words("finding"), made.summary
    assert words.startswith(f"24 conversations with 24 personas; {summary.turns} user turns, 97 preference pairs")
    assert "3 of 24 conversations ended early: 2 \N{MULTIPLICATION SIGN} The user simulator gave no usable" in words
    assert "1 more conversation went to the end, but the judge failed on the way:" in words
    assert "724 calls read 796,400 tokens (506,800 of them cached) and wrote 65,160, for US$ 3.53." in words
    assert "No language model" not in words and "Scripts played" not in words and "branch" not in words


def test_reasons_without_end_are_summed_up(made: SimulationPage) -> None:
    reasons = tuple(Reason(text=f"reason {place} " + "x" * 500, count=20 - place) for place in range(11))
    words = Elements(render(changed(made, ended_early=reasons))).words("finding")
    assert "reason 7" in words and "reason 8" not in words and "x" * 301 not in words
    assert "33 \N{MULTIPLICATION SIGN} for 3 other reasons" in words


def test_usage_stands_by_role_and_model_with_a_total(elements: Elements) -> None:
    words = elements.words("usage")
    assert "user a-model-of-8B 130 143,000 91,000 11,700 0.31" in words
    assert "judge a-model-of-70B 180 198,000 126,000 16,200 2.50" in words
    assert "judge a-model-of-8B 60 66,000 42,000 5,400 0.0040 all 724 796,400 506,800 65,160 3.53" in words
    assert "3 calls came without a count" in words


def test_money_at_an_unknown_price_is_unknown(made: SimulationPage) -> None:
    summary = summarise_simulation(made.trees, pairs=1, usage=usage(price=None), hygiene=None)
    elements = Elements(render(replace(made, summary=summary)))
    assert "126,000 16,200 unknown" in elements.words("usage") and "65,160 unknown" in elements.words("usage")
    assert "at a price that is not known" in elements.words("finding")


def test_usage_that_was_not_recorded_is_not_zero(made: SimulationPage) -> None:
    summary = summarise_simulation(made.trees, pairs=1, usage=(), hygiene=None)
    elements = Elements(render(replace(made, summary=summary)))
    assert "was not recorded" in elements.words("usage") and "US$" not in elements.text


def test_faults_stand_by_check_and_apart_by_role(made: SimulationPage, elements: Elements) -> None:
    words = elements.words("faults")
    users, others = words.split("Inducer")
    for one in made.summary.faults:
        assert f"{one.check} {one.count} {one.per_1000:.1f} in 1,000" in (users if one.role == "user" else others)
    assert f"{made.summary.missing} of {made.summary.replies} replies have no verdict" in words
    spotless = Elements(render(simulation(4, faults=False))).words("faults")
    assert "None was found in 20 user turns." in spotless


def test_the_judges_numbers_are_the_summarys(made: SimulationPage, elements: Elements) -> None:
    words, summary = elements.words("judge").replace("\N{NO-BREAK SPACE}", " "), made.summary
    assert summary.judge is not None and summary.judge.agreeing is not None
    assert f"Pairs compared {summary.judge.compared} Orders agree {100 * summary.judge.agreeing:.0f} %" in words
    total = summary.duel
    assert f"Tailored wins, ties, losses {total.won} / {total.tied} / {total.lost}" in words
    for one in summary.scores:
        assert f"{one.source.capitalize()} mean {one.mean:.2f} {one.replies} replies 5 {one.counts[4]} " in words
        means = " ".join(f"{at.mean:.2f}" for at in one.by_turn)
        assert f"Mean score, {one.source} {means}" in words
    known = " ".join(f"{at.statements:.2f}" for at in summary.known)
    assert f"Statements known {known}" in words


@pytest.mark.parametrize(
    ("guess", "sentence"),
    [
        (None, "There are too few pairs"),
        (0.58, "That is no more than chance can bring"),
        (0.41, "That is no more than chance can bring"),
        (0.71, "can learn that surface instead"),
    ],
)
def test_what_surface_tells_is_told_in_words(made: SimulationPage, guess: float | None, sentence: str) -> None:
    words = Elements(render(changed(made, hygiene=hygiene(guess)))).words("hygiene").replace("\N{NO-BREAK SPACE}", " ")
    assert sentence in words
    assert "more words 72 % of 93 pairs that differ more emoji \N{EN DASH} no pair differs" in words
    assert "more exclamations 100 % of 1 pair that differs" in words


def test_pairs_that_were_not_measured_are_not_called_clean(made: SimulationPage) -> None:
    assert "It was not measured." in Elements(render(changed(made, hygiene=None))).words("hygiene")


def test_an_empty_simulation_has_a_page() -> None:
    nothing = replace(simulation(0), personas={})
    elements = Elements(render(replace(nothing, summary=summarise_simulation((), pairs=0, usage=(), hygiene=None))))
    assert elements.words("finding").startswith("0 conversations with 0 personas;")
    assert "conversations" not in elements.sections
    assert "None" not in elements.text.replace("None was found", "") and "nan" not in elements.text.split()


def test_scripts_are_named_where_they_played(made: SimulationPage) -> None:
    every = ("user", "inducer", "tailored", "generic", "judge")
    scripted = Elements(render(replace(made, roles=roles(scripted=every)))).words("finding")
    assert "No language model took part in these conversations." in scripted
    some = Elements(render(replace(made, roles=roles(scripted=("user", "judge"))))).words("finding")
    assert "Scripts played in some roles: user, judge." in some and "No language model" not in some


def test_origin_names_models_weights_and_prompts(elements: Elements) -> None:
    words = elements.words("provenance").replace("\N{NO-BREAK SPACE}", " ")
    assert "judge a-model-of-70B (75 %), a-model-of-8B (25 %)" in words and "user a-model-of-8B inducer" in words
    assert "user 645d4a0999dc judge 32dd71d5446d" in words


def test_trees_that_branch_on_are_said_to() -> None:
    made = simulation(6, branches=True, faults=False)
    assert "12 paths lead from a first message to a last one" in Elements(render(made)).words("finding")
    turns: Any = simulation_island(made)["trees"][0]["turns"]
    first = turns[0]
    assert [reply["next"] for reply in first["replies"]] == [1, 2]
    assert [turn["root"] for turn in turns].count(True) == 1
    assert [reply["next"] for reply in turns[-1]["replies"]] == [None, None]


def test_a_conversation_carries_votes_ledger_models_and_faults(made: SimulationPage) -> None:
    island = simulation_island(made)
    for shown, tree in zip(island["trees"], made.trees, strict=True):
        told: Any = shown
        assert len(told["faults"]) == len(tree.faults) and told["failure"] == tree.failure
        for turn, comparison in zip(told["turns"], tree.comparisons, strict=True):
            assert turn["comparisons"] == [{"pair": [0, 1], "votes": comparison.votes}]
            assert [line[0] for line in turn["ledger"]] == ["fact", "trait"]
            assert turn["ledger"][1] == ["trait", "Mara is impatient", "get to the point"]
            assert turn["model"] == turn["replies"][0]["model"] == "a-model-of-8B"
    assert set(island["persons"]) == set(made.personas)


def test_many_conversations_are_drawn_evenly_and_the_page_says_so(
    made: SimulationPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interalign.report.simulation.MOST_CONVERSATIONS", 6)
    shown = simulation_island(made)
    assert [tree["person"] for tree in shown["trees"]] == [made.trees[4 * place].persona_id for place in range(6)]
    assert set(shown["persons"]) == {tree["person"] for tree in shown["trees"]}
    assert "6 of 24 conversations are shown, drawn evenly." in Elements(render(made)).words("conversations")


def test_long_conversations_leave_fewer_of_them_still_drawn_from_all() -> None:
    made = simulation(50, 6, hostile="x" * 5_000)
    shown = simulation_island(made)["trees"]
    assert 1 <= len(shown) < 50 and len(json.dumps(shown)) <= 2_500_000
    order = [one.persona_id for one in made.trees]
    places = [order.index(str(one["person"])) for one in shown]
    assert places == [50 * place // len(shown) for place in range(len(shown))]


def test_hostile_text_stays_text_everywhere() -> None:
    made = simulation(hostile=HOSTILE)
    elements = Elements(render(replace(made, prompts={"user" + HOSTILE: HOSTILE})))
    assert len(elements.scripts) == 3
    assert not any(tag == "img" for tag, _ in elements.tags)
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert "{{7*7}}" in elements.text and "-->49" not in elements.text
    assert json.loads(elements.scripts[0])["trees"][0]["turns"][0]["user"].endswith(HOSTILE)


def test_the_page_asks_nothing_of_the_network_and_its_links_lead_somewhere(elements: Elements) -> None:
    ids = {attributes["id"] for _, attributes in elements.tags if "id" in attributes}
    links = [attributes["href"] for _, attributes in elements.tags if "href" in attributes]
    assert links and not any("src" in attributes for _, attributes in elements.tags)
    for link in links:
        assert link is not None
        assert link == "data:," or link.removeprefix("#") in ids


def test_the_page_is_written_whole_or_not_at_all(made: SimulationPage, tmp_path: Path) -> None:
    path = tmp_path / "simulation.html"
    write(path, made)
    assert path.read_text(encoding="utf-8") == render(made)
    assert [one.name for one in tmp_path.iterdir()] == ["simulation.html"]
    with pytest.raises(StorageError):
        write(path / "below.html", made)
