from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from interalign.errors import StorageError
from interalign.report.page import render, write
from tests.report.made_up import Evaluation, evaluation

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>-->{{7*7}}\u2028\u2029\"'&amp;"
FACTS = {"Recipe": "offline.toml", "Base model": "SmolLM2-135M-Instruct"}


class Elements(HTMLParser):
    """The elements of a page, with the text inside scripts and everywhere else."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text += data


def page_of(made: Evaluation, title: str = "A run", facts: dict[str, str] = FACTS) -> str:
    return render(made.summary, made.rows, made.trees, made.personas, title=title, facts=facts)


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(evaluation(cases=6, turns=4))


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


def test_users_played_by_models_get_another_warning() -> None:
    made = evaluation(cases=2, turns=2)
    llm = made.summary.model_copy(update={"world": "Users and judge are gpt-x"})
    text = Elements(render(llm, made.rows, [], made.personas, title="A run", facts={})).text
    assert "These people are simulated." in text and "These people are programs." not in text
    assert "Training trees" not in text


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    made = evaluation(cases=2, turns=2)
    path = tmp_path / "report.html"
    write(path, made.summary, made.rows, made.trees, made.personas, title="A run", facts=FACTS)
    assert path.read_text(encoding="utf-8") == page_of(made)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StorageError):
        write(path / "inside", made.summary, made.rows, made.trees, made.personas, title="A run", facts=FACTS)
