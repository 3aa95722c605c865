from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from interalign.conversations.environment import JudgeConfig, environment_played_by
from interalign.errors import BudgetSpent, InputError, ModelError, Outage
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.llm.account import Budget
from interalign.llm.backends import LocalConfig, ScriptedConfig
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.prices import load_prices
from interalign.pipeline.rescore import Rescoring, estimate_rescoring, judge_folder, rescore
from interalign.pipeline.results import read_results
from interalign.pipeline.setting import Setting
from interalign.pipeline.work import Work
from interalign.recipe import Recipe, load_recipe
from interalign.roles.llm.player import WeightedModel
from interalign.run import RunFolder, read_json, read_jsonl, write_json, write_jsonl
from tests.evaluation.finished import CONFIG, MODELS, SEED, finished_run, played
from tests.llm.servers import FaultyServer, Reply, completion, error, in_a_thread, serving

SCRIPTED = environment_played_by(ScriptedConfig()).judge
RATED = 3 * (2 * 8 * 3 + 2 * 3 + 1)
"""Calls: of three models each of 8 x 3 replies for the person and for the stranger, two repeats, and one control."""


def judged(run: RunFolder, judge: JudgeConfig | None, **more: Any) -> tuple[Summary, Rescoring]:
    with Work.open(load_recipe(run.root / "recipe.toml"), run.root, Console(quiet=True)) as work:
        return rescore(work, judge, **more)


def rating(body: dict[str, Any]) -> Reply:
    """What a judge says who likes long replies."""
    reply = re.findall(r"<reply>(.*?)</reply>", body["messages"][1]["content"])[-1]
    score = min(5, 1 + len(reply.split()) // 12)
    text = json.dumps({"score": score, "style": score, "content": score, "honest": True})
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return completion(text, usage=usage)


class Rater(FaultyServer):
    """Rates replies by their length, up to so many; then it answers nothing any more."""

    def __init__(self, most: int = 10_000) -> None:
        super().__init__([])
        self.most = most

    def next_reply(self, body: bytes, key: str | None) -> Reply:
        with self._lock:
            self.bodies.append(json.loads(body))
            if len(self.bodies) > self.most:
                return error(401, "no such key")
            return rating(self.bodies[-1])


def no_question_twice(bodies: list[dict[str, Any]]) -> bool:
    asked = [json.dumps(body, sort_keys=True) for body in bodies]
    return len(asked) == len(set(asked))


@pytest.fixture
def server() -> Iterator[Rater]:
    with in_a_thread(Rater()) as running:
        yield running


@pytest.fixture
def on_server(server: Rater, monkeypatch: pytest.MonkeyPatch) -> JudgeConfig:
    """A judge on the server."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    judge = environment_played_by(EndpointConfig(base_url=server.base_url, model="rater", max_retries=0)).judge
    assert judge is not None
    return judge


def test_rules_say_again_what_they_said(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    before = (run.eval / "summary.json").read_text()
    summary, told = judged(run, None)
    assert summary == read_json(run.eval / "summary.json", Summary)
    for name, source in MODELS.items():
        rows = read_jsonl(run.root / "rescored" / "rules" / name / "verdicts.jsonl", TurnRow)
        assert tuple(rows) == played(source)
    assert (told.agreement.spearman.value, told.agreement.tau.value, told.agreement.lost) == (1, 1, 0)
    assert (run.eval / "summary.json").read_text() == before
    assert told == read_json(run.root / "rescored" / "rules" / "agreement.json", Rescoring)


def test_a_model_judges_everything_that_was_judged_and_tells_its_usage(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    summary, told = judged(run, SCRIPTED)
    (usage,) = told.usage
    # The same question twice is one call.
    assert usage.role == "judge" and RATED // 2 < usage.calls <= RATED and usage.usd == 0
    assert "judged by a script" in summary.world and summary.baseline == "base"
    assert [model.kind for model in summary.models] == ["model", "model", "control"]
    assert told.agreement.replies == 3 * 8 * 3
    assert told.agreement.spearman.value is not None and told.agreement.spearman.value < 1
    first, again = read_results([run.root, run.root / "rescored" / told.folder])
    assert first.setting["judge"] == "rules" and again.setting["judge"] == told.judge


def test_a_server_is_asked_once_and_the_same_command_asks_nothing_again(
    tmp_path: Path, server: Rater, on_server: JudgeConfig
) -> None:
    run = finished_run(tmp_path / "run")
    _, told = judged(run, on_server)
    asked = len(server.bodies)
    assert asked == told.usage[0].calls
    assert all("<reply>" in body["messages"][1]["content"] for body in server.bodies)
    assert judged(run, on_server)[1].agreement == told.agreement
    assert len(server.bodies) == asked


def test_a_judge_of_its_own_replies_is_told(tmp_path: Path, server: Rater, on_server: JudgeConfig) -> None:
    run = finished_run(tmp_path / "run")
    for name, model in (("base", f"rater at {server.base_url}"), ("mirror", "a control")):
        write_json(run.eval / name / "setting.json", Setting(name=name, tested={"model": model}))
    (note,) = judged(run, on_server)[0].notes
    assert "The judge rater is itself among the tested models (base)" in note
    assert judged(run, None)[0].notes == ()


def test_a_spent_budget_keeps_what_was_paid_for_and_a_larger_one_goes_on(
    tmp_path: Path, server: Rater, on_server: JudgeConfig
) -> None:
    run = finished_run(tmp_path / "run")
    with pytest.raises(BudgetSpent, match="It was judging"):
        judged(run, on_server, budget=Budget(tokens=60 * 120))
    paid = len(server.bodies)
    assert 0 < paid < 100
    assert not (run.root / "rescored" / "rater" / "summary.json").exists()
    _, told = judged(run, on_server, budget=Budget(tokens=10_000 * 120))
    assert told.agreement.lost == 0
    assert no_question_twice(server.bodies)


def test_a_server_that_is_gone_stops_the_work_and_loses_nothing(
    tmp_path: Path, server: Rater, on_server: JudgeConfig
) -> None:
    run = finished_run(tmp_path / "run")
    server.most = 60
    with pytest.raises(Outage, match="It was judging"):
        judged(run, on_server)
    server.most = 10_000
    before = len(server.bodies)
    _, told = judged(run, on_server)
    assert told.agreement.lost == 0
    assert no_question_twice([*server.bodies[:60], *server.bodies[before:]])


def test_a_judge_that_cannot_be_read_is_refused_and_nothing_is_called_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    run = finished_run(tmp_path / "run")
    with serving(completion("A fine reply!")) as mumbling:
        judge = environment_played_by(EndpointConfig(base_url=mumbling.base_url, model="mumbler")).judge
        assert judge is not None
        unread = "no verdict on any reply of base; its answers cannot be read"
        for free_text in (False, True):
            with pytest.raises(ModelError, match=unread) as caught:
                judged(run, judge.model_copy(update={"free_text": free_text}), name=f"mumbler-{free_text}")
            assert ("--free-text" in (caught.value.mend or "")) != free_text
    assert not list((run.root / "rescored").glob("*/base"))


def test_a_model_that_was_evaluated_anew_is_judged_anew(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    judged(run, None)
    rows = [row.model_copy(update={"reply": row.reply + " Indeed."}) for row in played("tailored")]
    write_jsonl(run.eval / "tuned" / "verdicts.jsonl", rows)
    judged(run, None)
    again = read_jsonl(run.root / "rescored" / "rules" / "tuned" / "verdicts.jsonl", TurnRow)
    assert [row.reply for row in again] == [row.reply for row in rows]


def test_the_folder_of_another_judge_is_refused_and_a_name_of_its_own_helps(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    assert SCRIPTED is not None
    judged(run, SCRIPTED, name="mine")
    other = SCRIPTED.model_copy(update={"free_text": True})
    with pytest.raises(InputError, match="verdicts of another judge"):
        judged(run, other, name="mine")
    with pytest.raises(InputError, match="no name for a folder"):
        judged(run, other, name="../mine")
    assert judged(run, other, name="yours")[1].folder == "yours"


def test_rules_do_not_judge_users_that_are_language_models(tmp_path: Path) -> None:
    roles = environment_played_by(LocalConfig(checkpoint="tiny"))
    recipe = Recipe(seed=SEED, benchmark=CONFIG.model_copy(update={"roles": roles}))
    run = finished_run(tmp_path / "run", recipe=recipe)
    with pytest.raises(InputError, match="Rules cannot judge here"):
        judged(run, None)
    assert not (run.root / "rescored").exists()


def test_a_run_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    (run.eval / "summary.json").unlink()
    with pytest.raises(InputError, match="holds no finished evaluation"):
        judged(run, None)


def test_an_estimate_has_the_calls_that_are_made(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    recipe = load_recipe(run.root / "recipe.toml")
    assert estimate_rescoring(run, recipe, None, load_prices()) == ()
    (row,) = estimate_rescoring(run, recipe, SCRIPTED, load_prices())
    _, told = judged(run, SCRIPTED)
    assert row.calls == pytest.approx(told.usage[0].calls, rel=0.3)
    assert row.prompt_tokens > 100 * row.calls and row.usd == 0


def test_a_judge_is_filed_under_the_names_of_its_models() -> None:
    assert judge_folder(None) == "rules"
    assert SCRIPTED is not None
    assert judge_folder(SCRIPTED.model_copy(update={"weighted": True})) == "a-script+weighted"
    judge = environment_played_by(LocalConfig(checkpoint="../some where/big:model")).judge
    assert judge_folder(judge) == "some-where-big-model"


def test_a_judge_of_the_same_name_on_another_server_is_another(tmp_path: Path, on_server: JudgeConfig) -> None:
    run = finished_run(tmp_path / "run")
    judged(run, on_server)
    elsewhere = EndpointConfig(base_url="http://localhost:9/v1", model="rater", max_retries=0)
    other = on_server.model_copy(update={"models": (WeightedModel(model=elsewhere),)})
    longer = on_server.model_copy(update={"sampling": on_server.sampling.model_copy(update={"max_tokens": 7})})
    for one in (other, longer):
        with pytest.raises(InputError, match="verdicts of another judge"):
            judged(run, one)
