"""The README promises commands and code: each one is checked against the Makefile, the command line and Python."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.cli.commands import interalign

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language."""
    return re.findall(rf"^ *```{language}\b[^\n]*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """The commands of a shell block as words, without prompts, comments and leading variable assignments."""
    found: list[list[str]] = []
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for token in lexer:
            if set(token) <= set("();<>|&"):
                found.append(words)
                words = []
            elif words or not re.match(r"\w+=", token):
                words.append(token)
        found.append(words)
    return [words for words in found if words]


def subcommand(words: list[str]) -> list[str]:
    """The words between `interalign` and its first option: the sub-command and its first arguments."""
    options = [index for index, word in enumerate(words) if word.startswith("-")]
    return words[1 : min(options, default=len(words))]


def readme() -> str:
    return README.read_text(encoding="utf-8") if README.is_file() else ""


def readme_commands(program: str) -> list[list[str]]:
    every = [words for block in blocks(readme(), "(?:bash|sh|console)") for words in commands(block)]
    return [words for words in every if Path(words[0]).name == program]


@cache
def help_text(words: tuple[str, ...]) -> str:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {"COLUMNS": "240", "TERM": "dumb", "NO_COLOR": "1"}.items():
            patched.setenv(name, value)
        done = interalign(*words, "--help")
    assert done.returncode == 0, done.said
    return done.stdout


def test_blocks_are_found() -> None:
    text = "a\n```bash\nmake x\n```\n```python\nx = 1\n```\n```python title=y\nz\n```\n"
    assert blocks(text, "bash") == ["make x\n"]
    assert blocks(text, "python") == ["x = 1\n", "z\n"]


def test_commands_are_taken_apart() -> None:
    block = "$ A=1 make x && interalign run 'r s.toml' \\\n  --out=o  # why\n# only a comment\ncat a | sort > b\n"
    assert commands(block) == [
        ["make", "x"],
        ["interalign", "run", "r s.toml", "--out=o"],
        ["cat", "a"],
        ["sort"],
        ["b"],
    ]
    assert subcommand(["interalign", "run", "r.toml", "--out", "o"]) == ["run", "r.toml"]


def test_readme_shows_commands_and_code() -> None:
    assert readme_commands("make")
    assert readme_commands("interalign")
    assert blocks(readme(), "python")


@pytest.mark.parametrize("words", readme_commands("make"), ids=" ".join)
def test_make_target_exists(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
    assert named <= targets


@pytest.mark.parametrize("words", readme_commands("interalign"), ids=" ".join)
def test_command_and_its_options_exist(words: list[str]) -> None:
    text = help_text(tuple(subcommand(words)))
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)] == []


@pytest.mark.parametrize("number", range(len(blocks(readme(), "python"))))
def test_python_compiles(number: int) -> None:
    compile(blocks(readme(), "python")[number], f"README.md, python block {number + 1}", "exec")


def test_tables_are_those_of_the_result_files() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "readme_tables.py"], capture_output=True, text=True, check=True
    ).stdout
    tables = made.strip().split("\n\n")
    results = list((ROOT / "benchmarks" / "results").glob("*.json"))
    assert len(tables) == len(results)
    for table in tables:
        assert table in readme()


SMALL = """
[world]
train = 2
heldout = 2
[simulate]
turns = 1
[train.dpo]
trees = 1
[benchmark]
turns = 2
max_tokens = 8
"""


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the offline model cannot be read without gguf")
    (tmp_path / "small.toml").write_text(SMALL, encoding="utf-8")
    example = next(block for block in blocks(readme(), "python") if "demo_recipe()" in block)
    small = example.replace("ia.demo_recipe()", "ia.load_recipe('small.toml')")
    done = subprocess.run([sys.executable, "-c", small], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| dpo |" in done.stdout
