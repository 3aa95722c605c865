from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from interalign.errors import StorageError
from interalign.evaluation.summary import summarise
from interalign.report.judging import Players
from interalign.report.page import render, write
from tests.report.elements import Elements
from tests.report.made_up import LLM_MODELS, Evaluation, evaluation, llm_evaluation

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>-->{{7*7}}\u2028\u2029\"'&amp;"
FACTS = {"Recipe": "offline.toml", "Base model": "SmolLM2-135M-Instruct"}


def page_of(made: Evaluation, title: str = "A run", facts: dict[str, str] = FACTS) -> str:
    return render(made.summary, made.rows, made.trees, made.personas, players=made.players, title=title, facts=facts)


def ids(page: str) -> set[str]:
    return {str(attributes["id"]) for tag, attributes in Elements(page).tags if tag == "section" and "id" in attributes}


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(evaluation(cases=24, turns=4))


@pytest.fixture(scope="module")
def everything() -> str:
    """The page of an evaluation in which all is measured."""
    return page_of(llm_evaluation())


def test_the_finding_and_the_table_stand_in_the_markup(page: str) -> None:
    text = " ".join(Elements(page).text.split())
    for shown in ("sft+dpo answers people", "Rule-based users, rule-based judge.", "N-IR", "oracle (disclosed only)"):
        assert shown in text
    assert "These people are programs." in text
    assert all(name in text and fact in text for name, fact in FACTS.items())


def test_hostile_text_stays_text_everywhere() -> None:
    made = evaluation(cases=3, turns=2, hostile=HOSTILE)
    hostile = page_of(made, title="A run" + HOSTILE, facts={"Recipe" + HOSTILE: HOSTILE})
    elements = Elements(hostile)
    assert len(elements.scripts) == 3
    assert not any(tag == "img" for tag, _ in elements.tags)
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert "{{7*7}}" in elements.text and "-->49" not in elements.text
    island = json.loads(elements.scripts[0])
    assert island["models"][1]["name"] == "sft" + HOSTILE
    assert island["cases"][0]["chats"]["base"][0]["user"].endswith(HOSTILE)


def test_the_page_asks_nothing_of_the_network(page: str) -> None:
    links = [
        value
        for _, attributes in Elements(page).tags
        for name, value in attributes.items()
        if name in {"src", "href", "action", "poster", "srcset", "data"}
    ]
    assert links
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)


def test_the_policy_knows_the_scripts_that_stand_in_the_page(page: str) -> None:
    elements = Elements(page)
    policy = next(attributes["content"] for tag, attributes in elements.tags if "http-equiv" in attributes)
    assert policy is not None and policy.startswith("default-src 'none';")
    for script in elements.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_script_never_writes_markup() -> None:
    scripts = Elements(page_of(evaluation(cases=2, turns=2))).scripts
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", scripts[2])


@pytest.mark.parametrize(("cases", "turns"), [(1, 1), (2, 1), (1, 12)])
def test_undefined_numbers_are_dashes(cases: int, turns: int) -> None:
    made = evaluation(cases=cases, turns=turns, models=("base",))
    elements = Elements(page_of(made))
    assert "\N{EN DASH}" in elements.text
    assert "None" not in elements.text and "nan" not in elements.text.split()


def test_half_a_surrogate_pair_does_not_cost_the_page() -> None:
    made = evaluation(cases=2, turns=1)
    page_of(made, title="\ud83d", facts={"Recipe": "\udce9.toml"}).encode()


def test_what_a_reader_must_know_stands_beside_the_finding() -> None:
    made = evaluation(cases=2, turns=2)
    warned = made.summary.model_copy(update={"notes": ("The judge <b>m</b> is itself among the tested models.",)})
    shown = render(warned, made.rows, [], made.personas, players=Players(judge="m"), title="A run", facts={})
    before, told, _ = Elements(shown).text.partition("The judge <b>m</b> is itself among the tested models.")
    assert told and "Alignment, turn by turn" not in before.partition("held-out persons")[2]


@pytest.mark.parametrize(
    ("players", "warning"),
    [
        (Players(), "These people are programs. Their users and their judge follow rules"),
        (Players(judge="a-model"), "These people are programs. Their users follow rules, and a language model judges."),
        (Players(user="a-model", judge="a-model"), "These people are simulated."),
    ],
)
def test_the_warning_is_that_of_who_played(players: Players, warning: str) -> None:
    made = evaluation(cases=2, turns=2)
    shown = render(made.summary, made.rows, [], made.personas, players=players, title="A run", facts={})
    assert Elements(shown).words("reading").startswith(f"How to read this {warning}")
    assert "Training trees" not in Elements(shown).text


def test_what_was_measured_has_a_place_and_what_was_not_has_none(page: str, everything: str) -> None:
    measured = {"beside", "place", "learnt", "groups", "missing"}
    assert ids(everything) >= measured
    assert not ids(page) & {*measured, "red"}
    folded = Elements(page).words("numbers")
    for title in ("Every pair of models", "Listening, mind-reading, and how soon people are met", "Missing verdicts"):
        assert title in folded
    assert "Helpfulness" not in Elements(page).text and "generic-nice" not in Elements(page).text.lower()


def test_everything_measured_stands_in_tables(everything: str) -> None:
    elements = Elements(everything)
    assert "dpo \N{MINUS SIGN} sft" in elements.words("differences")
    for header in ("Helpfulness", "Persona gap", "Mind-reading", "Never reached", "Run to run"):
        assert header in elements.words("beside")
    assert "disclosed-only oracle" in elements.words("place")
    assert "True, turn 10" in elements.words("learnt") and "Noticed, in all" in elements.words("learnt")
    assert "not difficult" in elements.words("groups") and "impatient" in elements.words("groups")
    assert "judge: unreadable" in elements.words("missing")
    assert "8 profiles and 3 personalities" in elements.words("numbers")
    assert "AL(7)" in elements.words("curves") and "AL(7)" not in elements.words("numbers")


def test_a_language_model_as_the_judge_is_warned_of(page: str, everything: str) -> None:
    finding = Elements(everything).words("finding")
    assert (
        "The judge is a language model: a-model-of-70B (temperature 0). Test it with interalign judge test" in finding
    )
    assert "before you trust its scores. It gave no verdict on" in finding
    assert "Grader a-model-of-70B (temperature 0)" in Elements(everything).words("provenance")
    assert "judge test" not in Elements(page).text


def test_a_script_is_no_judge() -> None:
    made = llm_evaluation(profiles=2, personalities=1, turns=2)
    players = Players(user="a script", judge="a script", scripted=True)
    shown = render(made.summary, made.rows, [], made.personas, players=players, title="A run", facts={})
    assert "The judge is a script." in Elements(shown).text and "judge test" not in Elements(shown).text


def test_a_red_result_says_so_before_anything_else() -> None:
    made = llm_evaluation(lost={"dpo": 0.2})
    red = made.summary.model("dpo").red
    assert red is not None
    shown = page_of(made)
    elements = Elements(shown)
    sections = [attributes for tag, attributes in elements.tags if tag == "section"]
    assert sections[0]["role"] == "alert"
    assert shown.index("Do not trust these numbers") < shown.index("<h1")
    assert red in elements.text
    assert "dpo not to be trusted" in elements.words("numbers")
    assert "base not to be trusted" not in elements.words("numbers")


def test_a_red_result_by_rules_shows_what_is_missing() -> None:
    made = evaluation(cases=6, turns=3, models=("base", "sft"))
    rows = {
        name: [row.model_copy(update={"verdict": None}) for row in of_model] for name, of_model in made.rows.items()
    }
    lost = {**made.rows, "sft": [*rows["sft"][:3], *made.rows["sft"][3:]]}
    summary = summarise(lost, baseline="base", world="Rules", resamples=100)
    shown = render(summary, lost, [], made.personas, players=Players(), title="A run", facts={})
    assert "Do not trust these numbers" in shown and "missing" in ids(shown)


def test_hostile_text_stays_text_where_everything_is_measured() -> None:
    made = llm_evaluation(profiles=5, personalities=2, turns=4, hostile=HOSTILE, lost=dict.fromkeys(LLM_MODELS, 0.3))
    elements = Elements(page_of(made))
    assert len(elements.scripts) == 3
    assert not any(tag == "img" for tag, _ in elements.tags)
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    turns = json.loads(elements.scripts[0])["cases"][0]["chats"]["base"]
    assert turns[0]["controls"][0]["reply"].endswith(HOSTILE)
    assert turns[0]["induction"]["statements"][0].endswith(HOSTILE)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    made = evaluation(cases=2, turns=2)
    path = tmp_path / "report.html"
    write(path, made.summary, made.rows, made.trees, made.personas, players=made.players, title="A run", facts=FACTS)
    assert path.read_text(encoding="utf-8") == page_of(made)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StorageError):
        write(
            path / "inside",
            made.summary,
            made.rows,
            made.trees,
            made.personas,
            players=made.players,
            title="A run",
            facts=FACTS,
        )
