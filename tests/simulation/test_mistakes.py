"""Small mistakes with a real server: a wrong model, a wrong key, a server that goes, a budget that is too small."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interalign.conversations.simulate import SimulateConfig, roles_played_by
from interalign.conversations.tree import Tree
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.journal import Call, Journal
from interalign.llm.model import Answer, Request, Usage, call_key
from interalign.messages import Message
from interalign.pipeline.simulate import Simulation
from interalign.recipe import Recipe, recipe_toml
from interalign.roles.llm.player import WeightedModel, instructions
from interalign.run import RunFolder, read_json, read_jsonl, write_jsonl, write_text
from tests.llm.servers import FaultyServer, Reply, completion, error, in_a_thread, serving
from tests.simulation.faulty_roles import REFUSAL, RoleServer, journalled_calls, people, playing, start_folder

Run = Callable[..., tuple[int, str]]
FILES = ("trees.jsonl", "simulation.json")


class Mistaken(RoleServer):
    """Plays all roles until something happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: Reply | None = None
        """What is answered once so many answers were given."""
        self.after = 0
        self.refused = 0
        self.unwilling = False
        """Whether users fall out of their role after the first turn."""

    def forget(self) -> None:
        super().forget()
        self.refusal, self.after, self.refused, self.unwilling = None, 0, 0, False

    def next_reply(self, body: bytes, key: str | None) -> Reply:
        reply = super().next_reply(body, key)
        with self._lock:
            told, asked, *_ = (message["content"] for message in json.loads(body)["messages"])
            if self.unwilling and told == instructions("user") and '"assistant"' in asked:
                return completion(REFUSAL)
            if self.refusal is None or len(self.bodies) <= self.after:
                return reply
            self.refused += 1
            return self.refusal


@pytest.fixture(scope="module")
def running() -> Iterator[Mistaken]:
    with in_a_thread(Mistaken()) as one:
        yield one


@pytest.fixture
def server(running: Mistaken) -> Mistaken:
    running.forget()
    return running


def named(server: FaultyServer, model: str = "served") -> tuple[str, ...]:
    """The options that name a model there."""
    return ("--base-url", server.base_url, "--model", model)


def pooled(root: Path, count: int) -> RunFolder:
    """A folder whose personas were grown by a model: the journal is not empty."""
    run = RunFolder(root)
    run.root.mkdir()
    with Journal.open(run.journal) as journal:
        request = Request(messages=(Message(role="user", content="Describe somebody."),))
        usage = Usage(prompt_tokens=3_000, completion_tokens=1_000)
        answer = Answer(text="Somebody.", finish="stop", usage=usage, model="served")
        journal.put_many([Call(call_key("served", request), request, answer, asked="served")])
    write_jsonl(run.personas, people(count))
    return run


def side_by_side(folder: RunFolder, most: int) -> None:
    """Have so many conversations at once."""
    recipe = folder.root / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("in_flight = 128", f"in_flight = {most}"))


def same(folder: RunFolder, other: RunFolder) -> bool:
    return all((folder.root / name).read_bytes() == (other.root / name).read_bytes() for name in FILES)


def test_a_wrong_model_or_address_does_not_use_up_the_folder(simulate: Run, server: Mistaken, tmp_path: Path) -> None:
    folder = pooled(tmp_path / "pool", 3)
    with serving(error(404, "The model `typo` does not exist.")) as other:
        code, said = simulate(folder, *named(other, "typo"), "--turns", "2")
        assert code == 8 and "The model `typo` does not exist." in said, said
        # The first answer tells; what was in flight beside it came to its end.
        assert len(other.bodies) <= 16
    assert not folder.trees.exists()
    code, said = simulate(folder, *named(server), "--turns", "2")
    assert code == 0, said
    assert len(read_jsonl(folder.trees, Tree)) == 3
    assert simulate(folder, *named(server, "other"))[0] == 5


def test_a_key_that_is_revoked_stops_the_work_and_the_same_command_goes_on(
    simulate: Run, server: Mistaken, whole: RunFolder, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path / "run", server, people(8), concurrency=4)
    side_by_side(folder, 2)
    calls = len(journalled_calls(whole))
    server.refusal, server.after = error(401, "not any more"), 2 * calls // 3
    code, said = simulate(folder)
    assert code == 8, said
    assert "not any more" in said and "conversations are done and written" in said
    assert server.refused < 20
    first = read_jsonl(folder.trees, Tree)
    told = read_json(folder.root / "simulation.json", Simulation)
    assert told.unfinished == 8 - len(first) > 0
    assert [tree.failure for tree in first] == [None] * len(first)
    assert len(first) >= 3
    # Again, with the key still wrong: what is done stays.
    before = folder.trees.read_bytes()
    assert simulate(folder)[0] == 8
    assert folder.trees.read_bytes() == before
    server.refusal = None
    kept = len(journalled_calls(folder))
    begun = len(server.bodies)
    code, said = simulate(folder)
    assert code == 0, said
    assert len(server.bodies) - begun == calls - kept
    assert same(folder, whole)


@pytest.mark.parametrize("status", [403, 404])
def test_other_words_for_a_key_that_is_revoked(simulate: Run, server: Mistaken, tmp_path: Path, status: int) -> None:
    folder = start_folder(tmp_path / "run", server, people(4), concurrency=4)
    side_by_side(folder, 2)
    server.refusal, server.after = error(status, "not any more"), 48
    code, said = simulate(folder)
    assert code == 8 and "not any more" in said and "conversations are done and written" in said, said
    assert server.refused < 20
    assert 1 <= len(read_jsonl(folder.trees, Tree)) < 4


def test_a_server_that_is_gone_is_asked_once(simulate: Run, tmp_path: Path) -> None:
    with playing() as server:
        folder = start_folder(tmp_path / "run", server, people(12), concurrency=4, max_retries=0)
    code, said = simulate(folder)
    assert code == 8, said
    assert "cannot be reached" in said and "0 of 12 conversations are done" in said and "start the server" in said
    assert not folder.trees.exists()


def test_a_server_that_is_out_of_order_is_not_asked_by_every_conversation(
    simulate: Run, server: Mistaken, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path / "run", server, people(12), concurrency=4, max_retries=0)
    server.refusal = error(500, "out of memory")
    code, said = simulate(folder)
    assert code == 8 and "out of memory" in said and "10 calls in a row failed" in said, said
    assert server.refused < 20
    assert not folder.trees.exists()
    server.refusal = None
    assert simulate(folder)[0] == 0


def test_a_judge_whose_server_is_out_of_order_stops_the_others_too(
    simulate: Run, server: Mistaken, tmp_path: Path
) -> None:
    roles = roles_played_by(EndpointConfig(base_url=server.base_url, model="served", concurrency=4))
    with serving(error(500, "out of memory")) as other:
        gone = EndpointConfig(base_url=other.base_url, model="judge", max_retries=0)
        judge = roles.judge.model_copy(update={"models": (WeightedModel(model=gone),)})
        config = SimulateConfig(turns=3, roles=roles.model_copy(update={"judge": judge}))
        folder = RunFolder(tmp_path / "run")
        write_text(folder.root / "recipe.toml", recipe_toml(Recipe(simulate=config)))
        write_jsonl(folder.personas, people(40))
        code, said = simulate(folder)
    assert code == 8 and "out of memory" in said and "10 calls in a row failed" in said, said
    assert len(server.bodies) < 300
    assert not folder.trees.exists()


def test_single_conversations_that_fail_are_told_with_their_reasons(
    simulate: Run, server: Mistaken, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path / "run", server, people(4), concurrency=1, max_retries=0)
    side_by_side(folder, 1)
    server.refusal, server.after = error(400, "content filter"), 12
    code, said = simulate(folder)
    assert code == 0, said
    assert "ended early: served@" in said and "content filter" in said


def test_a_model_that_answers_rubbish_is_told_as_such(simulate: Run, tmp_path: Path) -> None:
    rubbish = completion("As an AI language model, I cannot help with that.")
    with serving(rubbish) as other:
        folder = RunFolder(tmp_path / "run")
        roles = roles_played_by(EndpointConfig(base_url=other.base_url, model="served"))
        write_text(folder.root / "recipe.toml", recipe_toml(Recipe(simulate=SimulateConfig(turns=2, roles=roles))))
        write_jsonl(folder.personas, people(4))
        code, said = simulate(folder)
        assert code == 8, said
        assert "No conversation got past its first turn; most frequent: user: " in said and "min_margin" not in said
        assert not folder.trees.exists() and not (folder.root / "simulation.json").exists()
        assert simulate(folder)[0] == 8


def test_a_trial_with_scripts_does_not_use_up_the_folder(simulate: Run, server: Mistaken, tmp_path: Path) -> None:
    folder, direct = pooled(tmp_path / "run", 3), pooled(tmp_path / "direct", 3)
    assert simulate(folder, "--scripted", "--turns", "3")[0] == 0
    trial = {name: (folder.root / name).read_bytes() for name in FILES}
    # A wrong model first, as it goes.
    with serving(error(404, "no such model")) as other:
        assert simulate(folder, *named(other, "typo"), "--turns", "2")[0] == 8
    options = (*named(server), "--turns", "2", "--budget", "200000 tokens")
    code, said = simulate(folder, *options)
    assert code == 0, said
    assert simulate(direct, *options)[0] == 0
    assert same(folder, direct)
    # Nothing was deleted.
    assert {name: (folder.root / "scripted" / name).read_bytes() for name in FILES} == trial
    assert (folder.root / "scripted" / "preferences").is_dir()
    # Models' trees stay where they are.
    assert simulate(folder, "--scripted", "--turns", "2")[0] == 5


def test_what_a_budget_covers_is_said_before_the_first_call(simulate: Run, server: Mistaken, tmp_path: Path) -> None:
    folder = pooled(tmp_path / "run", 20)
    code, said = simulate(folder, *named(server), "--turns", "3", "--budget", "60k tokens")
    assert code == 10, said
    words = " ".join(said.split())
    assert "The budget of 60,000 tokens (used so far: 4,000 tokens, all before this command) covers about" in words
    assert "of 20 conversations by estimate" in words
    assert "4,000 tokens of it before this command); the role" in words
    assert len(read_jsonl(folder.trees, Tree)) >= 5


def test_a_command_that_was_stopped_is_done_to_its_end_by_any_other(
    simulate: Run, server: Mistaken, whole: RunFolder, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path / "run", server, people(8))
    assert simulate(folder, "--budget", "45000 tokens")[0] == 10
    first = {tree.persona_id for tree in read_jsonl(folder.trees, Tree)}
    # Fewer than are there: they all are done again, from the journal.
    code, said = simulate(folder, "--personas", "1")
    assert code == 0, said
    assert {tree.persona_id for tree in read_jsonl(folder.trees, Tree)} == first | {people(1)[0].id}
    assert simulate(folder)[0] == 0
    assert (folder.trees).read_bytes() == whole.trees.read_bytes()
    grown = read_json(folder.root / "simulation.json", Simulation)
    assert grown.usage == read_json(whole.root / "simulation.json", Simulation).usage


def test_a_command_that_dies_between_its_last_steps_is_understood(
    simulate: Run, server: Mistaken, whole: RunFolder, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path / "run", server, people(8))
    assert simulate(folder, "--budget", "45000 tokens")[0] == 10
    names = ("trees.jsonl", "simulation.json", ".stopped.json")
    stopped = {name: (folder.root / name).read_bytes() for name in names}
    # The note comes first, then what is told, then the trees; at the end the note goes.
    for there in (
        {".stopped.json": stopped[".stopped.json"]},
        {name: stopped[name] for name in names[1:]},
        stopped | {"simulation.json": (whole.root / "simulation.json").read_bytes()},
        {name: (whole.root / name).read_bytes() for name in FILES} | {".stopped.json": stopped[".stopped.json"]},
    ):
        for name in names:
            (folder.root / name).unlink(missing_ok=True)
        for name, content in there.items():
            (folder.root / name).write_bytes(content)
        code, said = simulate(folder)
        assert code == 0, said
        assert same(folder, whole)


def test_a_user_who_is_asked_for_other_words_is_told_each_try_once(
    simulate: Run, server: Mistaken, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path / "run", server, people(2))
    server.unwilling = True
    assert simulate(folder)[0] == 0
    # Two branches now, and in each the user fails.
    for _ in range(2):
        assert simulate(folder, "--grow", str(folder.trees), "--policy", "full")[0] == 0
    trees = read_jsonl(folder.trees, Tree)
    for tree in trees:
        assert [one.attempt for one in tree.faults] == list(range(3 * (1 + 2 + 2)))
