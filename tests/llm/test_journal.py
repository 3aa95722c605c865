from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interalign.errors import InputError, ModelError, StorageError
from interalign.llm.journal import Call, Journal, Paid, journalled
from interalign.llm.model import Answer, Chance, ChatModel, Request, Usage, call_key
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message

WRITER = """
import sys
from pathlib import Path
from interalign.llm.journal import Journal
from interalign.llm.model import Answer, Request, Usage, call_key
from interalign.messages import Message
path, who, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with Journal.open(path) as journal:
    for number in range(count):
        request = Request(messages=(Message(role="user", content=f"{who} {number}"),))
        key = call_key("m", request)
        journal.put(key, request, Answer(text=f"{who} {number}", finish="stop", usage=Usage(), model="m"))
        print(key, number, flush=True)
"""


class Gated:
    """A model that answers when its gate opens, and numbers its answers."""

    name = "gated"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked = 0

    async def complete(self, request: Request) -> Answer:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        return answer(f"answer {number}")


def ask(text: str, sample: int = 0) -> Request:
    return Request(messages=(Message(role="user", content=text),), sample=sample)


def answer(text: str) -> Answer:
    return Answer(text=text, finish="stop", usage=Usage(prompt_tokens=3, completion_tokens=1), model="m")


def counting() -> ScriptedModel:
    """A model that never says the same thing twice."""
    numbers = itertools.count()
    return ScriptedModel("m", lambda _: f"answer {next(numbers)}")


def silent() -> ScriptedModel:
    def refuse(request: Request) -> str:
        raise ModelError("asked again")

    return ScriptedModel("m", refuse)


def answers(model: ChatModel, requests: list[Request]) -> list[Answer]:
    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*map(model.complete, requests))

    return asyncio.run(all_at_once())


def writer(path: Path, who: str, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), who, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.builds(ask, st.text(max_size=2), st.integers(0, 1)), max_size=12))
def test_a_replay_equals_the_first_run(requests: list[Request]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        with Journal.open(path) as journal:
            first = answers(journalled(counting(), journal), requests)
            assert len(journal) == len({call_key("m", request) for request in requests})
        with Journal.open(path) as journal:
            assert answers(journalled(silent(), journal), requests) == first


def test_the_first_answer_under_a_key_stays(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "new" / "journal.sqlite") as journal:
        assert journal.get("k") is None
        assert journal.put("k", ask("a"), answer("first")) == answer("first")
        assert journal.put("k", ask("a"), answer("second")) == answer("first")
        assert journal.get("k") == answer("first")
        held = journal.put_many([Call("k", ask("a"), answer("third")), Call("l", ask("b"), answer("new"))])
        assert held == [answer("first"), answer("new")]
        assert journal.put_many([]) == []
        assert len(journal) == 2


def test_an_answer_is_on_disk_before_it_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def check() -> None:
        with Journal.open(path) as journal, Journal.open(path) as other:
            said = await journalled(counting(), journal).complete(ask("a"))
            assert other.get(call_key("m", ask("a"))) == said

    asyncio.run(check())


def test_the_answer_of_another_process_wins_when_it_was_first(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def check() -> None:
        model = Gated()
        with Journal.open(path) as journal, Journal.open(path) as other:
            ours = asyncio.create_task(journalled(model, journal).complete(ask("a")))
            while not model.asked:
                await asyncio.sleep(0.001)
            other.put(call_key("gated", ask("a")), ask("a"), answer("theirs"))
            model.gate.set()
            assert await ours == answer("theirs")

    asyncio.run(check())


def test_identical_requests_in_flight_ask_once(tmp_path: Path) -> None:
    async def check() -> None:
        model = Gated()
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            kept = journalled(model, journal)
            waiting = [asyncio.create_task(kept.complete(ask("a"))) for _ in range(8)]
            other = asyncio.create_task(kept.complete(ask("a", sample=1)))
            while model.asked < 2:
                await asyncio.sleep(0.001)
            model.gate.set()
            same = await asyncio.gather(*waiting)
            assert len({said.text for said in same}) == 1
            assert (await other).text != same[0].text
            assert model.asked == 2

    asyncio.run(check())


def test_a_call_that_has_begun_is_written_though_its_caller_is_cancelled(tmp_path: Path) -> None:
    async def check() -> None:
        model = Gated()
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            kept = journalled(model, journal)
            leaving = asyncio.create_task(kept.complete(ask("a")))
            staying = asyncio.create_task(kept.complete(ask("a")))
            while not model.asked:
                await asyncio.sleep(0.001)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            model.gate.set()
            assert (await staying).text == "answer 1"

            model.gate.clear()
            alone = asyncio.create_task(kept.complete(ask("b")))
            while model.asked < 2:
                await asyncio.sleep(0.001)
            alone.cancel()
            model.gate.set()
            assert (await kept.complete(ask("b"))).text == "answer 2"

    asyncio.run(check())


def test_an_answer_that_waits_to_be_written_survives_the_end_of_the_loop(tmp_path: Path) -> None:
    free = threading.Event()
    answered = asyncio.Event()

    class Busy:
        """Answers when the only thread that could write has just been taken."""

        name = "busy"

        async def complete(self, request: Request) -> Answer:
            asyncio.get_running_loop().run_in_executor(None, free.wait)
            answered.set()
            return answer("paid")

    async def free_the_thread_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            free.set()

    async def check(journal: Journal) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        tasks = [
            asyncio.create_task(journalled(Busy(), journal).complete(ask("a"))),
            asyncio.create_task(free_the_thread_at_the_end()),
        ]
        await answered.wait()
        assert not any(task.done() for task in tasks)

    with Journal.open(tmp_path / "journal.sqlite") as journal:
        asyncio.run(check(journal))
        assert journal.get(call_key("busy", ask("a"))) == answer("paid")


def test_failures_are_not_kept_and_reach_every_caller(tmp_path: Path) -> None:
    async def check() -> None:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            kept = journalled(silent(), journal)
            failed = await asyncio.gather(kept.complete(ask("a")), kept.complete(ask("a")), return_exceptions=True)
            assert [type(error) for error in failed] == [ModelError, ModelError]
            assert len(journal) == 0
            assert (await journalled(counting(), journal).complete(ask("a"))).text == "answer 0"

    asyncio.run(check())


def test_a_journalled_model_is_a_chat_model_of_the_same_name(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        kept = journalled(counting(), journal)
        assert isinstance(kept, ChatModel)
        assert kept.name == "m"


def test_kill_leaves_every_acknowledged_row_readable(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    process = writer(path, "a", 1_000_000)
    start(process)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().split() for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    # What it had printed when it died counts too; a line that was cut off does not.
    rest, _ = process.communicate()
    acknowledged += [line.split() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    with Journal.open(path) as journal:
        for key, number in acknowledged:
            assert journal.get(key) == Answer(text=f"a {number}", finish="stop", usage=Usage(), model="m")
        journal.put("next", ask("a"), answer("still writes"))


def test_two_processes_write_one_new_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    processes = [writer(path, who, 100) for who in ("a", "b")]
    for process in processes:
        start(process)
    keys = [line.split()[0] for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0]
    with Journal.open(path) as journal:
        assert len(journal) == len(set(keys)) == 200
        assert all(journal.get(key) for key in keys)


def test_threads_share_a_journal(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite") as journal:

        def write(who: int) -> None:
            for number in range(30):
                journal.put(f"{who} {number}", ask("a"), answer(f"{who} {number}"))

        threads = [threading.Thread(target=write, args=[who]) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [journal.get(f"{who} 29") for who in range(4)] == [answer(f"{who} 29") for who in range(4)]
        assert len(journal) == 120


def test_a_full_disk_is_a_storage_error_and_keeps_what_was_paid(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        journal.put("k", ask("a"), answer("paid"))
        # SQLite's own limit stands in for the disk's: the error is the same.
        journal._connection.execute("PRAGMA max_page_count = 5")
        rows = [Call(f"k{number}", ask("a"), answer("x" * 1000)) for number in range(50)]
        with pytest.raises(StorageError, match="paid answers are kept"):
            journal.put_many(rows)
        assert len(journal) == 1
        assert journal.get("k") == answer("paid")
        journal._connection.execute("PRAGMA max_page_count = 1000")
        journal.put_many(rows)
        assert len(journal) == 51


def test_a_full_disk_reaches_the_caller(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        journal._connection.execute("PRAGMA max_page_count = 1")
        model = ScriptedModel("m", lambda _: "x" * 10_000)
        with pytest.raises(StorageError):
            answers(journalled(model, journal), [ask("a")])


def test_a_file_that_is_no_journal_is_an_input_error(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("This is no database, but it is long enough to be looked at. " * 40)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE calls (key TEXT)")
    connection.close()
    before = foreign.read_bytes()
    for path in (text, foreign):
        with pytest.raises(InputError, match="cannot be read") as caught, Journal.open(path):
            pass
        assert str(path) in caught.value.what
        assert "move it away" in (caught.value.mend or "")
    assert foreign.read_bytes() == before


def test_a_journal_of_another_version_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        journal._connection.execute("PRAGMA user_version = 9")
    with pytest.raises(InputError, match="format 9"), Journal.open(path):
        pass


def test_a_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        journal.put_many([Call(f"k{number}", ask("a"), answer("x" * 1000)) for number in range(50)])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with Journal.open(path) as journal, pytest.raises(InputError, match="malformed"):
        journal.get("k1")


def test_a_row_that_holds_no_answer_is_an_input_error(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        journal.put("k", ask("a"), answer("x"))
        journal._connection.execute("""UPDATE calls SET answer = '{"text": "x"'""")
        with pytest.raises(InputError, match="row k holds no answer"):
            journal.get("k")
        with pytest.raises(InputError, match="row k holds no answer"):
            journal.put_many([Call("l", ask("b"), answer("y")), Call("k", ask("a"), answer("x"))])
        assert journal.get("l") is None
        assert journal.put("l", ask("b"), answer("y")) == answer("y")


def test_a_folder_in_place_of_the_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can be written"), Journal.open(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), Journal.open(tmp_path / "file" / "journal.sqlite"):
        pass


OLD_SCHEMA = "CREATE TABLE calls (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL)"
OPENER = """
import sys
from pathlib import Path
from interalign.llm.journal import Journal
print("ready", flush=True)
sys.stdin.readline()
with Journal.open(Path(sys.argv[1])) as journal:
    print(len(journal), flush=True)
"""


def old_journal(path: Path, count: int = 3) -> None:
    """A journal as it was before it told the names that were asked."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {0x69616C6E}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute(OLD_SCHEMA)
        rows = [
            (f"k{number}", ask(f"{number}").model_dump_json(), answer("old").model_dump_json())
            for number in range(count)
        ]
        connection.executemany("INSERT INTO calls VALUES (?, ?, ?)", rows)
        connection.commit()


def test_what_was_paid_is_told_with_the_name_that_was_asked(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        uncounted = Answer(text="12345", finish="stop", usage=Usage(), model="served")
        answers(journalled(ScriptedModel("asked", lambda _: "one two"), journal), [ask("a")])
        journal.put("k", ask("b"), answer("x"))
        journal.put("l", ask("c"), uncounted, asked="asked")
        first, second, third = journal.paid()
    assert (first.key, first.asked, first.served) == (call_key("asked", ask("a")), "asked", "asked")
    assert second == Paid("k", None, "m", Usage(prompt_tokens=3, completion_tokens=1), estimated=False)
    assert (third.asked, third.served, third.usage.completion_tokens, third.estimated) == ("asked", "served", 2, True)


def test_what_was_paid_can_be_gone_through_while_the_journal_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interalign.llm.journal._AT_ONCE", 2)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        journal.put_many([Call(f"k{number}", ask("a"), answer("x")) for number in range(5)])
        found = []
        for paid in journal.paid():
            found.append(paid.key)
            assert journal.get(paid.key) == answer("x")
            journal.put("k2", ask("a"), answer("another"))
    assert found == [f"k{number}" for number in range(5)]


def test_an_old_journal_is_brought_to_this_format_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    old_journal(path)
    for _ in range(2):
        with Journal.open(path) as journal:
            assert [journal.get(f"k{number}") for number in range(3)] == [answer("old")] * 3
            assert [paid.asked for paid in journal.paid()][:3] == [None] * 3
            journal.put("new", ask("new"), answer("new"), asked="name")
            assert [paid.asked for paid in journal.paid()] == [None, None, None, "name"]


def test_processes_open_an_old_journal_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    old_journal(path, 50)
    command = [sys.executable, "-c", OPENER, str(path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        start(process)
    assert [process.communicate()[0] for process in processes] == ["50\n"] * 3
    assert [process.returncode for process in processes] == [0] * 3


def test_what_another_journal_holds_is_taken_in_once(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "one.sqlite") as journal, Journal.open(tmp_path / "other.sqlite") as other:
        journal.put("k", ask("a"), answer("ours"), asked="ours")
        other.put_many([Call("k", ask("a"), answer("theirs"), "theirs"), Call("l", ask("b"), answer("new"), "theirs")])
        for _ in range(2):
            journal.take_in(other)
            assert (journal.get("k"), journal.get("l")) == (answer("ours"), answer("new"))
            assert [(paid.key, paid.asked) for paid in journal.paid()] == [("k", "ours"), ("l", "theirs")]
        other._connection.execute("UPDATE calls SET request = '{'")
        other.put("n", ask("c"), answer("newer"))
        journal._connection.execute("DELETE FROM calls WHERE key = 'l'")
        with pytest.raises(InputError, match=r"other\.sqlite cannot be read: row l holds no answer"):
            journal.take_in(other)
        assert journal.get("n") is None


def test_chances_are_kept(tmp_path: Path) -> None:
    said = answer("4").model_copy(update={"top": ((Chance("4", -0.1), Chance("5", -2.5)),)})
    wished = ask("a").model_copy(update={"top_logprobs": 5})
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        journal.put("k", wished, said)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        assert journal.get("k") == said
        with Journal.open(tmp_path / "other.sqlite") as other:
            other.take_in(journal)
            assert other.get("k") == said


def test_a_row_without_chances_is_as_it_was_before_there_were_any(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        journal.put("k", ask("a"), answer("x"))
    with closing(sqlite3.connect(path)) as connection:
        ((request, said),) = connection.execute("SELECT request, answer FROM calls").fetchall()
    assert "top" not in json.loads(said) and "top_logprobs" not in json.loads(request)
    with Journal.open(path) as journal:
        assert journal.get("k") == answer("x")
