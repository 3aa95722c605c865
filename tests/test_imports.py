"""The front door: what imports, what it must not bring along, and in which direction modules know each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import interalign

ROOT = Path(__file__).parents[1]

HEAVY = (
    "accelerate",
    "aiolimiter",
    "datasets",
    "gguf",
    "inspect_ai",
    "openai",
    "pandas",
    "peft",
    "plotly",
    "py3langid",
    "pyarrow",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "torch",
    "transformers",
    "trl",
    "usearch",
)


def heavy_modules_after(code: str) -> list[str]:
    """The heavy packages that a fresh interpreter has loaded after `code`."""
    ask = f"import json, sys; print('\\n' + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{ask}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_the_check_sees_a_heavy_package() -> None:
    assert heavy_modules_after("import sys; sys.modules['torch'] = sys") == ["torch"]


def test_import_is_light() -> None:
    assert heavy_modules_after("import interalign") == []


def test_every_public_name_is_light() -> None:
    assert heavy_modules_after("import interalign; [getattr(interalign, name) for name in interalign.__all__]") == []


def test_help_is_light() -> None:
    code = """
import sys
from interalign.cli import main
sys.argv = ["interalign", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert heavy_modules_after(code) == []


@pytest.mark.parametrize("name", interalign.__all__)
def test_public_name(name: str) -> None:
    assert getattr(interalign, name) is not None
    assert name in dir(interalign)


def test_public_names_are_sorted_and_complete() -> None:
    assert interalign.__all__ == sorted(interalign.__all__)
    assert set(interalign.__all__) == {*interalign._HOMES, "__version__"}


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="Personna"):
        interalign.Personna  # noqa: B018


def test_imports_go_one_way() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_folder_with_modules_is_a_package() -> None:
    # The import check walks packages only: a folder without __init__.py would escape it.
    folders = {module.parent for module in (ROOT / "src/interalign").rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
