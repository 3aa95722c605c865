from __future__ import annotations

import asyncio
import importlib
import json
import math
import os
import re
import subprocess
import sys
import tomllib
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from interalign.conversations.environment import environment_of, environment_played_by, prompts_of, roles_of
from interalign.conversations.tree import Fault
from interalign.errors import InputError, MissingExtra
from interalign.evaluation.benchmark import BenchmarkConfig, ModelCandidate, line_up, play_case, run_benchmark
from interalign.evaluation.cases import read_cases
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import summarise
from interalign.llm.inspect import InspectConfig
from interalign.llm.model import Answer, Request, Sampling, Usage
from interalign.messages import Chat, Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.roles.ledger import Disclosure
from interalign.roles.llm.player import Player, instructions
from interalign.roles.llm.script import scripts
from interalign.roles.responder import ModelResponder, policy_prompt
from interalign.run import write_jsonl

pytest.importorskip("inspect_ai", reason="inspect-ai is not installed (the extra 'inspect')")

from inspect_ai import eval as run_inspect
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score

from interalign.evaluation.inspect_scores import rows_of, score_of
from interalign.evaluation.inspect_task import aloe

pytestmark = [
    # Inspect AI 0.3 speaks to tenacity 9.2 in the words of its earlier versions, and leaves streams of its own open.
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]

Says = Callable[[Chat], Awaitable[str]]

WORLD: dict[str, Any] = {"cases": "world", "people": 3, "turns": 3}
"""Three people whom rules play."""
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/inspect.md").read_text(encoding="utf-8")
REPLIES = (
    "Start small, and keep it simple.",
    "Okay! Maybe try one thing this week? 😊",
    "I would suggest that you consider two options before you decide, and then sleep on them.",
)


async def answer(chat: Chat) -> str:
    """The model under test: its reply depends on the last message, and tells nothing of the person."""
    return REPLIES[zlib.crc32(chat[-1].content.encode()) % len(REPLIES)]


async def rater(chat: Chat) -> str:
    """A judge whose scores differ from reply to reply and from person to person."""
    digest = zlib.crc32(chat[-1].content.encode())
    scores = {"score": 1 + digest % 5, "style": 1 + digest // 5 % 5, "content": 3, "honest": digest % 7 > 0}
    return json.dumps(scores)


def scripted(role: str) -> Says:
    async def says(chat: Chat) -> str:
        return (await scripts()[role].complete(Request(messages=chat))).text

    return says


PLAYS: dict[str, Says] = {role: scripted(role) for role in ("user", "inducer", "grader")} | {"judge": rater}


def model(says: Says, seen: list[Chat] | None = None) -> Model:
    """A model of Inspect's that answers by a function of the chat alone."""

    async def outputs(messages: list[ChatMessage], tools: Any, choice: Any, config: GenerateConfig) -> ModelOutput:
        chat = tuple(Message.model_validate({"role": one.role, "content": one.text}) for one in messages)
        if seen is not None:
            seen.append(chat)
        output = ModelOutput.from_content("mock", await says(chat))
        # Without one, the mock counts by a table that it fetches from the internet.
        output.usage = ModelUsage(input_tokens=10, output_tokens=5, total_tokens=15)
        return output

    return get_model("mockllm/model", custom_outputs=outputs)


class OwnModel:
    """The same model on interalign's own side."""

    def __init__(self, says: Says) -> None:
        self._says = says

    name = "mock"

    async def complete(self, request: Request) -> Answer:
        return Answer(text=await self._says(request.messages), finish="stop", usage=Usage(), model="mock")


def log_of(folder: Path, says: Says = answer, *, roles: Mapping[str, Says] | None = None, **wished: Any) -> EvalLog:
    """The log of an evaluation; what is wished goes to the task, but for what `eval` takes itself."""
    of_eval = {name: wished.pop(name) for name in ("epochs", "limit", "token_limit") if name in wished}
    (log,) = run_inspect(
        aloe(**wished),
        model=model(says),
        model_roles={role: model(plays) for role, plays in (roles or {}).items()},
        log_dir=str(folder),
        display="none",
        **of_eval,
    )
    return log


def why(log: EvalLog) -> str:
    """Why an evaluation failed, on one line."""
    assert log.status == "error" and log.error is not None
    return " ".join(log.error.message.split())


def metrics(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    (scores,) = log.results.scores
    return {name: metric.value for name, metric in scores.metrics.items()}


def people(seed: int = 0) -> tuple[Persona, ...]:
    return compose_personas(WorldConfig(train=1, heldout=3), seed)[1:]


def candidate() -> ModelCandidate:
    return ModelCandidate(ModelResponder(OwnModel(answer), Sampling()))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    return log_of(tmp_path_factory.mktemp("world"), **WORLD)


def test_both_ways_write_the_same_rows(world: EvalLog) -> None:
    own = asyncio.run(run_benchmark(candidate(), people(), BenchmarkConfig(turns=3), 0))
    assert world.status == "success"
    assert sorted(rows_of(world), key=place) == sorted(own, key=place)
    assert len({row.verdict.score for row in own if row.verdict}) > 3


def test_both_ways_write_the_same_rows_with_language_models(tmp_path: Path) -> None:
    log = log_of(tmp_path, roles=PLAYS, limit=2, **WORLD | {"turns": 5})
    rows = rows_of(log)
    assert sorted(rows, key=place) == sorted(asyncio.run(played_by_models({row.case for row in rows})), key=place)
    assert {row.turn for row in rows if row.induction} == {5}
    assert {row.turn for row in rows if row.controls} == {5}
    assert all(row.swapped for row in rows) and any(row.disclosure.stated for row in rows)


def place(row: TurnRow) -> tuple[str, int, int]:
    return row.case, row.repeat, row.turn


async def played_by_models(wanted: set[str]) -> list[TurnRow]:
    roles = environment_played_by(InspectConfig(model="mockllm/model"))
    played = roles_of(roles)
    told = prompts_of(played)
    players = {
        role: Player([(OwnModel(PLAYS[role]), 1)], one.sampling, instructions(told[role]))
        for role, one in played.items()
    }
    config = BenchmarkConfig(turns=5, roles=roles, repeats=0)
    cast = environment_of(players, roles, config.checks)
    cases = [case for case in line_up(people(), config, 0) if case.persona.id in wanted]
    rows = [await play_case(case.persona, case.stranger, candidate(), cast, config, 0) for case in cases]
    return [row for of_case in rows for row in of_case]


def test_the_numbers_are_those_of_a_summary(world: EvalLog) -> None:
    persons = {persona.id: persona for persona in people()}
    (summary,) = summarise({"m": rows_of(world)}, baseline="m", world="", people=persons).models
    shown = metrics(world)
    for name in ("ir", "r2", "n_ir", "gap"):
        estimate = getattr(summary, name)
        assert (shown[name], shown[f"{name}_low"]) == (estimate.value, estimate.low)
    assert (shown["al"], shown["al_high"]) == (summary.mean_al.value, summary.mean_al.high)
    assert [shown[f"al_{turn}"] for turn in (1, 2, 3)] == [level.value for level in summary.al]
    assert [shown[f"al_{turn}_low"] for turn in (1, 2, 3)] == [level.low for level in summary.al]
    assert shown["missing"] == 0


def test_the_log_holds_the_conversation_with_its_verdicts(world: EvalLog) -> None:
    read = read_eval_log(world.location)
    assert rows_of(read) == rows_of(world)
    assert read.samples is not None
    for sample in read.samples:
        rows = [row for row in rows_of(read) if row.case == sample.id]
        said = [text for row in rows for text in (row.user, row.reply)]
        assert [message.text for message in sample.messages] == [policy_prompt(), *said]
        told = [message.metadata for message in sample.messages if message.role == "assistant"]
        assert [one and one["score"] for one in told] == [row.verdict and row.verdict.score for row in rows]
        assert [one and one["parts"] for one in told] == [row.verdict and row.verdict.parts for row in rows]
        assert sample.output.completion == rows[-1].reply
        score = (sample.scores or {})["alignment"]
        assert isinstance(score.value, dict)
        assert [score.value[f"al_{row.turn}"] for row in rows] == [row.verdict and row.verdict.score for row in rows]
        assert score.metadata is not None and len(score.metadata["turns"]) == 3
        assert (score.explanation or "").count("\n| ") == 3


def test_a_sample_says_who_it_is(world: EvalLog) -> None:
    persons = {persona.id: persona for persona in people()}
    for sample in world.samples or []:
        persona = persons[str(sample.id)]
        assert (sample.metadata["profile"], sample.metadata["personality"]) == (persona.profile, persona.personality)
        assert sample.metadata["groups"]["trait"] == sorted(trait.name for trait in persona.traits)
        assert sample.metadata["groups"]["difficulty"] in (["difficult"], ["not difficult"])
        assert isinstance(sample.input, str) and len(sample.input) < 230


def test_the_packaged_people_are_the_default() -> None:
    samples = aloe().dataset
    assert [sample.id for sample in samples] == [persona.id for persona in read_cases("aloe")]


def test_a_file_of_people_is_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "people.jsonl", people())
    log = log_of(tmp_path, cases=str(tmp_path / "people.jsonl"), turns=2)
    assert {row.case for row in rows_of(log)} == {persona.id for persona in people()}


def test_the_model_under_test_sees_the_chat_and_nothing_else(tmp_path: Path) -> None:
    seen: list[Chat] = []
    (log,) = run_inspect(aloe(**WORLD), model=model(answer, seen), log_dir=str(tmp_path), display="none")
    said = {text for row in rows_of(log) for text in (row.user, row.reply)}
    assert {message.content for chat in seen for message in chat} <= {policy_prompt(), *said}
    assert len(seen) == 9


def test_epochs_are_conversations_of_their_own(tmp_path: Path) -> None:
    log = log_of(tmp_path, epochs=2, **WORLD)
    rows = rows_of(log)
    first = [row.user for row in rows if not row.repeat]
    again = [row.user for row in rows if row.repeat == 1]
    assert len(first) == len(again) == 9 and first != again
    scores = [row.verdict.score for row in rows if row.verdict]
    assert metrics(log)["al"] == pytest.approx(sum(scores) / len(scores))


def test_rules_judge_where_they_are_wanted(tmp_path: Path) -> None:
    by_model = log_of(tmp_path, roles={"judge": rater, "grader": PLAYS["grader"]}, **WORLD)
    by_rules = log_of(tmp_path, roles={"judge": rater}, judge="rules", **WORLD)
    assert all(row.verdict and set(row.verdict.parts) == {"style", "content", "honest"} for row in rows_of(by_model))
    assert all(row.verdict and "on_topic" in row.verdict.parts for row in rows_of(by_rules))


def test_without_controls_nothing_is_asked_beside_the_conversation(tmp_path: Path) -> None:
    rows = rows_of(log_of(tmp_path, roles=PLAYS, limit=1, controls=False, **WORLD | {"turns": 4}))
    assert [(row.swapped, row.controls, row.induction) for row in rows] == [(None, {}, None)] * 4


@pytest.mark.parametrize(
    ("roles", "wished", "expected"),
    [
        ((), {"turns": 2}, r"role 'user' has no model.*--model-role user=.*cases=world"),
        (("judge",), {"turns": 2}, r"role 'user' has no model"),
        (("user",), {"turns": 2}, r"role 'judge' has no model.*--model-role judge="),
        (("user", "judge"), {"turns": 2, "judge": "rules"}, r"Rules cannot judge.*without -T judge=rules"),
        ((), {**WORLD, "helpfulness": True}, r"role 'judge' has none.*leave out -T helpfulness"),
    ],
)
def test_a_role_that_needs_a_model_is_named(
    tmp_path: Path, roles: Sequence[str], wished: dict[str, Any], expected: str
) -> None:
    log = log_of(tmp_path, roles={role: PLAYS[role] for role in roles}, **wished)
    with pytest.raises(InputError, match=expected):
        raise InputError(why(log))


@pytest.mark.parametrize(
    ("wished", "expected"),
    [
        ({"turns": 1}, r"-T turns=1: .*greater than or equal to 2"),
        ({"turns": "many"}, "-T turns=many"),
        ({"judge": "nobody"}, r"-T judge=nobody.*'role' or 'rules'"),
        ({"cases": "world", "people": 1}, "at least 2"),
        ({"cases": "nowhere.jsonl"}, r"nowhere\.jsonl"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(wished: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        aloe(**wished)


def test_a_conversation_that_breaks_keeps_its_turns(tmp_path: Path) -> None:
    async def breaks(chat: Chat) -> str:
        if len(chat) > 4:
            raise RuntimeError("the provider is gone")
        return await answer(chat)

    log = log_of(tmp_path, breaks, **WORLD)
    assert [row.failure is None for row in rows_of(log)] == [True, True, False] * 3
    shown = metrics(log)
    assert shown["missing"] == 3 and math.isnan(shown["al_3"]) and not math.isnan(shown["al_2"])
    read = read_eval_log(log.location)
    score = ((read.samples or [])[0].scores or {})["alignment"]
    assert isinstance(score.value, dict) and math.isnan(float(str(score.value["al_3"])))
    assert "the provider is gone" in (score.explanation or "")


def test_a_conversation_that_never_began_is_an_error_of_its_sample(tmp_path: Path) -> None:
    async def dead(chat: Chat) -> str:
        raise RuntimeError("nobody is there")

    assert "No turn could be played" in why(log := log_of(tmp_path, dead, **WORLD)) and "nobody is there" in why(log)


def test_a_limit_of_the_evaluation_ends_the_sample_with_what_was_said(tmp_path: Path) -> None:
    log = log_of(tmp_path, token_limit=25, **WORLD)
    for sample in log.samples or []:
        assert sample.limit is not None and sample.limit.type == "token"
        assert [message.role for message in sample.messages] == ["system", "user", "assistant"]
    with pytest.raises(InputError, match="holds no rows"):
        rows_of(log)


def test_a_log_of_something_else_is_refused(world: EvalLog) -> None:
    with pytest.raises(InputError, match=r"holds no rows.*header_only"):
        rows_of(read_eval_log(world.location, header_only=True))


def test_faults_of_others_are_told_beside_the_scores() -> None:
    faults = tuple(Fault(role="judge", turn=1, check="no answer", attempt=attempt, text="") for attempt in range(2))
    row = TurnRow(case="c", turn=1, user="Hi", reply="Hello", disclosure=Disclosure(turn=1), faults=faults)
    score = score_of([row], 1)
    assert (score.explanation or "").endswith("\n\n2 x judge: no answer")
    assert score.metadata is not None
    assert score.metadata["turns"] == [{"turn": 1, "score": None, "faults": ["judge: no answer"] * 2}]


def test_the_score_of_nothing_is_undefined_and_counted() -> None:
    score: Score = score_of([], 2)
    assert isinstance(score.value, dict)
    assert score.value["missing"] == 2 and score.reason == "scoring_failed"
    assert all(math.isnan(float(str(score.value[name]))) for name in ("al", "al_1", "al_2", "gap", "mind_reading"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("interalign.evaluation.inspect_task", "interalign.evaluation.inspect_scores"):
        monkeypatch.delitem(sys.modules, name)
        for package in ("inspect_ai", "inspect_ai.log"):
            monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra, match=r"'inspect-ai'.*interalign\[inspect\]"):
            importlib.import_module(name)


def checkpoint(folder: Path) -> Path:
    """A checkpoint of random weights; torch is loaded for the slow tests only."""
    from tests.training.tiny import make_model, make_tokenizer

    return make_model(folder, make_tokenizer(" ".join(REPLIES)))


@pytest.mark.slow
def test_a_checkpoint_is_tested_by_its_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny")
    (log,) = run_inspect(
        aloe(**WORLD | {"turns": 2}),
        model="hf/tiny",
        model_args={"model_path": str(folder), "device": "cpu"},
        max_tokens=16,
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success"
    assert len(rows_of(log)) == 6 and all(row.verdict for row in rows_of(log))


def calls_of(folder: Path, **wished: Any) -> Counter[str]:
    """How often each model is asked in one conversation of the default length, which models play and judge."""
    heard: dict[str, list[Chat]] = {role: [] for role in ("tested", *PLAYS)}
    (log,) = run_inspect(
        aloe(cases="world", people=2, **wished),
        model=model(answer, heard["tested"]),
        model_roles={role: model(says, heard[role]) for role, says in PLAYS.items()},
        log_dir=str(folder),
        display="none",
        limit=1,
    )
    assert log.status == "success"
    return Counter({role: len(chats) for role, chats in heard.items()})


def test_a_conversation_takes_the_calls_that_the_page_says(tmp_path: Path) -> None:
    told = re.search(
        r"of 10 turns takes about (\d+) calls: (\d+) each of\s+# the user, the inducer and the tested model, (\d+) of "
        r"the judge, (\d+) for the controls\. Without controls it is (\d+)\.",
        PAGE,
    )
    assert told is not None
    whole, each, judged, of_controls, without = map(int, told.groups())
    plain, made = calls_of(tmp_path / "plain", controls=False), calls_of(tmp_path / "controls")
    assert plain == {"user": each, "inducer": each, "tested": each, "judge": each, "grader": 0}
    assert (plain.total(), made.total()) == (without, whole)
    # Each reply is judged under another person's persona as well, which is among the judge's calls.
    assert judged == 2 * each and whole == 3 * each + judged + of_controls


def test_the_code_of_the_page_reads_a_log(world: EvalLog, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code.replace("logs/....eval", world.location), {})
    assert "| mine |" in capsys.readouterr().out


@pytest.mark.slow
def test_inspect_finds_the_task_by_its_entry_point(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny")
    found = tmp_path / "found" / "interalign_entry-1.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: interalign-entry\nVersion: 1\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (found / "entry_points.txt").write_text(
        f"[inspect_ai]\ninteralign = {project['entry-points']['inspect_ai']['interalign']}\n"
    )
    command = [
        *(Path(sys.executable).with_name("inspect"), "eval", "interalign/aloe", "--model", "hf/tiny"),
        *("-M", f"model_path={folder}", "-T", "cases=world", "-T", "people=2", "-T", "turns=2"),
        *("--max-tokens", "16", "--log-dir", tmp_path / "logs", "--display", "plain"),
    ]
    paths = os.pathsep.join([str(found.parent), str(ROOT / "src")])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (tmp_path / "logs").glob("*.eval")
    assert len(rows_of(read_eval_log(str(log)))) == 4
