"""`interalign eval` with judges that answer as they like, or not at all, on a real server on this machine."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from interalign.evaluation.judging.trial import Trial
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.llm.endpoint import EndpointConfig
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.pipeline.record import Evaluation
from interalign.recipe import load_recipe
from interalign.run import read_json, read_jsonl, write_jsonl, write_text
from tests.cli.commands import Done, interalign
from tests.llm.servers import FaultyServer, Reply, completion, error, in_a_thread

PEOPLE = [one for one in compose_personas(WorldConfig(train=1, heldout=4), seed=3) if one.split == "heldout"]
TURNS = 5
GOOD = json.dumps({"score": 5, "style": 4, "content": 3, "honest": True})

FREE = {
    "4.": 4,
    "Score: 2/5": 2,
    "three": 3,
    "I'd say 4 because it takes up what she told of her garden.": 4,
}
"""What people would read as a score, and the grammar does, too."""

NOTHING = ("", "I'm sorry, but I cannot rate another assistant.", '{"score": 4, "style": 3, "con', "4 or 5", "8/10")
"""What is no score to anybody."""

REFUSED = completion(None, choices=[{"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}])
"""A refusal as the OpenAI protocol has it: no text at all."""


Run = Callable[..., Done]


class JudgeServer(FaultyServer):
    """Gives each new question the next of its replies, and the same question, also when asked again, the same."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        super().__init__(())
        self.given: dict[str, Reply] = {}
        """The reply to each question, by its data."""
        self._in_turn = replies
        self._asking = threading.Lock()

    def next_reply(self, body: bytes, key: str | None) -> Reply:
        asked = json.loads(body)
        with self._asking:
            self.bodies.append(asked)
            question = asked["messages"][1]["content"]
            return self.given.setdefault(question, self._in_turn[len(self.given) % len(self._in_turn)])

    def to(self, row: TurnRow) -> Reply:
        """What was said of the reply of a row."""
        profile = next(one.profile for one in PEOPLE if one.id == row.case)
        inside = [json.dumps(text, ensure_ascii=False) for text in (profile, row.user)]
        reply = f"<reply>{json.dumps(row.reply, ensure_ascii=False)}</reply>"
        (said,) = (
            reply_given
            for question, reply_given in self.given.items()
            if question.endswith(reply) and all(text in question for text in inside)
        )
        return said


def judging(*replies: Reply) -> AbstractContextManager[JudgeServer]:
    return in_a_thread(JudgeServer(replies))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return partial(interalign, width=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "run" / "heldout.jsonl", PEOPLE)
    return tmp_path / "run"


def words(folder: Path, server: JudgeServer, *, free_text: bool = False) -> tuple[str | Path, ...]:
    """Rules play the user, a script the tested model, the server the judge, who is asked for nothing beside."""
    recipe = folder.parent / "judged.toml"
    judge = "models = [{ model = { backend = 'scripted' } }]\n"
    write_text(recipe, f"[benchmark]\nresamples = 200\nrepeats = 0\n[benchmark.roles.judge]\n{judge}")
    judged_by = ("--judge", f"weak@{server.base_url}", *(["--free-text"] if free_text else []))
    tested = ("--model", "mine=scripted", "--turns", str(TURNS), "--no-controls")
    return ("eval", "--out", folder, "--recipe", recipe, *judged_by, *tested)


def read(folder: Path) -> tuple[list[TurnRow], Summary]:
    """The rows of the tested model, and the summary."""
    rows = read_jsonl(folder / "eval" / "mine" / "verdicts.jsonl", TurnRow)
    return rows, read_json(folder / "eval" / "summary.json", Summary)


def flat(text: str) -> str:
    """A text whose lines may have been broken anywhere."""
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("free_text", [True, False])
def test_an_answer_is_the_score_that_it_says_or_is_missing(run: Run, folder: Path, free_text: bool) -> None:
    scores = {GOOD: 5, **(FREE if free_text else {})}
    with judging(*map(completion, [GOOD, *FREE, *NOTHING])) as server:
        done = run(*words(folder, server, free_text=free_text))
        assert done.returncode == 0, done.stderr
        expected = {completion(text).body: score for text, score in scores.items()}
        rows, summary = read(folder)
        assert len(rows) == len(PEOPLE) * TURNS == len(server.given)
        for row in rows:
            score = None if row.verdict is None else row.verdict.score
            assert score == expected.get(server.to(row).body), server.to(row).body
        # What cannot be read is asked for once more, and what can be is not; a schema is sent to those who keep to it.
        unreadable = sum(row.verdict is None for row in rows)
        assert len(server.bodies) == len(rows) + unreadable
        assert all(("response_format" in body) != free_text for body in server.bodies)
    (mine,) = summary.models
    assert (mine.missing, mine.missing_share) == (unreadable, unreadable / len(rows))
    assert mine.mean_al.value is not None and mine.bounds is not None and mine.red is not None
    assert mine.bounds.low < mine.mean_al.value <= mine.bounds.high
    assert mine.red in flat(done.stdout) and f"{mine.missing_share:.1%}" in mine.red
    # Each of them has a reason, and all are told.
    assert mine.lacking == Counter(row.missing["verdict"] for row in rows if row.verdict is None)
    assert {"empty", "refused"} <= mine.lacking.keys() and ("no JSON" in mine.lacking) != free_text
    assert all(flat(f"mine: {why} {count}") in flat(done.stdout) for why, count in mine.lacking.items())
    assert f"Verdicts missing: {unreadable}." in flat(done.stdout)


@pytest.mark.parametrize(("missing", "red"), [(0, False), (1, False), (2, True)])
def test_more_than_one_verdict_in_twenty_missing_makes_the_result_red(
    run: Run, folder: Path, missing: int, red: bool
) -> None:
    bad = [completion(NOTHING[1])] * missing
    with judging(*bad, *[completion(GOOD)] * (len(PEOPLE) * TURNS - missing)) as server:
        done = run(*words(folder, server))
    assert done.returncode == 0, done.stderr
    mine = read(folder)[1].model("mine")
    assert (mine.missing, mine.red is not None, mine.bounds is not None) == (missing, red, bool(missing))
    assert run("report", "--out", folder).returncode == 0
    page = flat((folder / "report.html").read_text(encoding="utf-8"))
    for shown in (flat(done.stdout), page.partition("</main>")[0]):
        assert ("of the verdicts on mine are missing" in shown) == red
        assert ("Too many verdicts are missing to say" in shown) == red
    # What is left out is left out, and no lowest score.
    assert mine.mean_al.value == 5


@pytest.mark.parametrize("failure", [REFUSED, error(400, "This text is not to be rated.")])
def test_a_judge_that_fails_now_and_then_is_counted_with_its_reason(run: Run, folder: Path, failure: Reply) -> None:
    with judging(failure, *[completion(GOOD)] * 9) as server:
        done = run(*words(folder, server))
    assert done.returncode == 0, done.stderr
    rows, summary = read(folder)
    lost = [row for row in rows if row.verdict is None]
    assert [[(fault.role, fault.check) for fault in row.faults] for row in lost] == [[("judge", "no answer")]] * 2
    cause = "refused" if failure is REFUSED else "call failed: status 400"
    assert [row.missing for row in lost] == [{"verdict": cause}] * 2
    assert summary.model("mine").lacking == {cause: 2} and cause in (summary.model("mine").red or "")
    assert all(fault.text for row in lost for fault in row.faults) and not any(row.failure for row in rows)
    assert read_json(folder / "eval" / "evaluation.json", Evaluation).faults == {"judge: no answer": 2}
    told = flat(done.stderr)
    assert "What is lacking, over all models: 2 of 20 verdicts were not answered. None of it counts" in told
    assert "stands under `faults` in" in told and told.count("counts against a model") == 1
    assert summary.model("mine").red is not None


def test_what_failed_is_asked_again_by_the_same_command(run: Run, folder: Path) -> None:
    with judging(error(400, "Not now."), *[completion(GOOD)] * 9) as server:
        assert run(*words(folder, server)).returncode == 0
        assert read(folder)[1].model("mine").missing == 2
        asked = len(server.bodies)
        server.given.clear()
        server._in_turn = [completion(GOOD)]
        done = run(*words(folder, server))
        assert done.returncode == 0, done.stderr
        assert len(server.bodies) == asked + 2
    mine = read(folder)[1].model("mine")
    assert (mine.missing, mine.red) == (0, None) and "missing verdicts" not in done.stdout


def test_a_judge_without_a_single_score_is_refused_with_the_way_out(run: Run, folder: Path) -> None:
    with judging(completion("4.")) as server:
        done = run(*words(folder, server))
        assert done.returncode == 8
        assert "The judge has no verdict on any reply of mine" in done.stderr and "--free-text" in done.stderr
        assert "its answers cannot be read as scores (reason: no JSON)" in flat(done.stderr)
        # Nothing counts as done.
        assert not (folder / "eval").exists()
        again = run(*words(folder.parent / "other", server, free_text=True), "--cases", folder / "heldout.jsonl")
        assert again.returncode == 0, again.stderr
        rows, summary = read(folder.parent / "other")
    assert {row.verdict and row.verdict.score for row in rows} == {4}
    assert summary.model("mine").red is None


def test_free_text_is_not_advised_where_it_is_on(run: Run, folder: Path) -> None:
    with judging(completion("8/10")) as server:
        done = run(*words(folder, server, free_text=True))
    assert done.returncode == 8 and "name another judge, or see what it is asked" in flat(done.stderr)
    assert "--free-text" not in done.stderr


def test_another_model_in_a_role_keeps_all_else_that_the_recipe_has_for_it(run: Run, folder: Path) -> None:
    endpoint = "backend = 'endpoint', base_url = 'http://127.0.0.1:9/v1', model = 'old', api_key_env = 'ITS_KEY'"
    settings = "timeout_s = 33, concurrency = 3, max_retries = 1, requests_per_minute = 60000, json_schema = false"
    with judging(completion(GOOD)) as server:
        said = list(words(folder, server))
        judge = f"sampling.max_tokens = 77\nmodels = [{{ model = {{ {endpoint}, {settings} }} }}]\n"
        write_text(folder.parent / "judged.toml", f"[benchmark]\nresamples = 200\n[benchmark.roles.judge]\n{judge}")
        done = run(*said, "--max-tokens", "90")
        assert done.returncode == 0, done.stderr
        assert {body["max_tokens"] for body in server.bodies} == {77}
        assert not any("response_format" in body for body in server.bodies)
        expected = EndpointConfig(
            base_url=server.base_url,
            model="weak",
            timeout_s=33,
            concurrency=3,
            max_retries=1,
            requests_per_minute=60000,
            json_schema=False,
        )
    kept = load_recipe(folder / "recipe.toml").benchmark
    assert kept.roles is not None and kept.roles.judge is not None and kept.max_tokens == 90
    assert [one.model for one in kept.roles.judge.models] == [expected]


def test_rules_take_no_free_text(run: Run, folder: Path) -> None:
    done = run("eval", "--out", folder, "--model", "mine=scripted", "--free-text")
    assert done.returncode == 2 and "Rules judge here" in done.stderr


def test_a_judge_that_says_the_same_of_all_or_nothing_fails_its_trial(run: Run, tmp_path: Path) -> None:
    with judging(*map(completion, ["4.", "Score: 4/5", NOTHING[1]])) as server:
        done = run(
            *("judge", "test", "--model", "weak", "--base-url", server.base_url, "--out", tmp_path / "trial"),
            *("--items", "3", "--tests", "calibration", "--free-text"),
        )
    assert done.returncode == 0, done.stderr
    trial = read_json(tmp_path / "trial" / "trial-weak-free-text.json", Trial)
    assert trial.asked == 12 and trial.missing == 1 / 3
    assert "weak 33% of its verdicts are missing (reason: refused)." in flat(done.stdout)
    assert "Missing verdicts by reason: refused (4)." in flat(done.stdout) and trial.lacking == {"refused": 4}
    assert "weak It is not shown to order replies of known worth." in flat(done.stdout)
    assert "No test finds this judge weak." not in done.stdout
