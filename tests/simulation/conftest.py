from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from interalign.run import RunFolder
from tests.cli.commands import interalign
from tests.simulation.faulty_roles import RoleServer, people, playing, start_folder

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def simulate() -> Run:
    """Run `interalign simulate` in this process; gives its exit code and all it printed."""

    def once(folder: RunFolder, *options: str) -> tuple[int, str]:
        done = interalign("simulate", "--out", folder.root, *options)
        return done.returncode, done.said

    return once


@pytest.fixture(scope="module")
def running() -> Iterator[RoleServer]:
    """The server of all tests of a file."""
    with playing() as one:
        yield one


@pytest.fixture(scope="module")
def whole(simulate: Run, running: RoleServer, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of eight people by that server: what others must come to."""
    folder = start_folder(tmp_path_factory.mktemp("whole") / "run", running, people(8))
    code, said = simulate(folder)
    assert code == 0, said
    return folder
