from __future__ import annotations

import csv
import json
import re
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import InputError
from interalign.evaluation.formats import (
    as_csv,
    as_json,
    as_latex,
    as_model_index,
    tidy,
    write_parquet,
)
from interalign.evaluation.measures import Bounds, CounterfactualLevels, GroupLevel
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary, summarise
from interalign.evaluation.tables import markdown
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

WORLD = "Rule-based users & a rule-based judge, 100 % made up"
HOSTILE = 'a|b & c_d "e" \\input{x}\n#1 <i>`$%^~*[x](y)'
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "base")


def chats(scores: list[float | None], cases: int = 4) -> list[TurnRow]:
    """The same scores, turn by turn, with every case but for a little, and that little is each model's own."""
    return [
        TurnRow(
            case=f"person{case}",
            turn=turn,
            user="Hello",
            reply="one two",
            disclosure=Disclosure(turn=turn),
            verdict=None if score is None else Verdict(score=scored(score, case), penalties={"stuffing": 0.5}),
        )
        for case in range(cases)
        for turn, score in enumerate(scores, 1)
    ]


def scored(score: float, case: int) -> float:
    return score * (0.99 if case % 2 else 1.01) + 0.01 * case


@cache
def summary_of(name: str = "tuned", world: str = WORLD) -> Summary:
    rows = {"base": chats([2, 2.5, 3]), name: chats([3, 3.5, 4]), "flat": chats([2, 2, 2]), "mute": chats([None] * 3)}
    return summarise(rows, baseline="base", world=world, controls=["flat", "mute"], resamples=100)


def only(name: str) -> Summary:
    """A summary of one model of this name."""
    summary = summary_of()
    return summary.model_copy(update={"models": (summary.models[1].model_copy(update={"name": name}),)})


def body(text: str) -> list[list[str]]:
    """The cells of the first Markdown table below its head; a pipe that is escaped ends no cell."""
    lines = [line for line in text.split("\n\n", maxsplit=1)[0].splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_tidy_has_one_row_for_each_model_and_turn_and_one_for_everything_else() -> None:
    rows = tidy(summary_of())
    levels = [row for row in rows if row.metric == "al"]
    assert [(row.model, row.turn) for row in levels[:4]] == [("base", 1), ("base", 2), ("base", 3), ("tuned", 1)]
    assert levels[3].value == pytest.approx(3.015) and levels[3].low is not None
    others = [(row.model, row.metric) for row in rows if row.turn is None]
    assert len(set(others)) == len(others)
    found = {(row.model, row.metric): row for row in rows if row.turn is None}
    assert found["tuned", "mean_al"].value == pytest.approx(3.515)
    assert found["tuned", "difference"].value == pytest.approx(1)
    assert found["tuned", "difference"].p is not None and found["tuned", "mean_al"].p is None
    assert found["tuned", "penalties.stuffing"].value == 0.5
    assert found["mute", "missing"].value == 12


def test_numbers_of_groups_and_controls_stand_under_their_names() -> None:
    model = (
        summary_of()
        .model("tuned")
        .model_copy(
            update={
                "groups": (GroupLevel(kind="age", name="18 to 30", cases=5, mean_al=Estimate(value=4)),),
                "counterfactuals": (
                    CounterfactualLevels(
                        name="generic-nice",
                        al=(Estimate(value=2), Estimate()),
                        mean_al=Estimate(value=2),
                        difference=Estimate(value=1),
                    ),
                ),
                "bounds": Bounds(low=2, high=3),
                "red": "Too much is missing.",
            }
        )
    )
    found = {(row.metric, row.turn): row.value for row in tidy(summary_of().model_copy(update={"models": (model,)}))}
    assert found["groups.age.18 to 30.mean_al", None] == 4
    assert found["counterfactuals.generic-nice.al", 1] == 2
    assert found["counterfactuals.generic-nice.al", 2] is None
    assert found["counterfactuals.generic-nice.difference", None] == 1
    assert (found["bounds.low", None], found["bounds.high", None]) == (2, 3)
    assert not any(metric in ("red", "name", "kind") for metric, _ in found)


def test_what_is_undefined_is_null_and_never_0() -> None:
    undefined = {(row.model, row.metric) for row in tidy(summary_of()) if row.value is None}
    assert {("base", "difference"), ("mute", "mean_al"), ("mute", "al"), ("flat", "r2")} <= undefined
    assert ("tuned", "mean_al") not in undefined


def test_csv_reads_back_with_every_number_and_name() -> None:
    summary = summary_of(HOSTILE)
    read = list(csv.DictReader(StringIO(as_csv(summary), newline="")))
    rows = tidy(summary)
    assert [row["model"] for row in read] == [row.model for row in rows]
    assert HOSTILE in {row["model"] for row in read}
    for field in ("value", "low", "high", "p", "turn"):
        assert [float(row[field]) if row[field] else None for row in read] == [getattr(row, field) for row in rows]


@given(NAMES)
def test_any_name_comes_back_from_csv_and_json(name: str) -> None:
    summary = only(name)
    assert {row["model"] for row in csv.DictReader(StringIO(as_csv(summary), newline=""))} == {name}
    assert Summary.model_validate_json(as_json(summary)) == summary


def test_json_is_the_whole_summary_with_null_for_undefined() -> None:
    read = json.loads(as_json(summary_of()))
    mute = next(model for model in read["models"] if model["name"] == "mute")
    assert mute["mean_al"]["value"] is None
    assert read["world"] == WORLD


def test_parquet_is_typed_and_says_whose_numbers_it_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    summary = summary_of(HOSTILE)
    write_parquet(tmp_path / "new" / "results.parquet", summary)
    table = parquet.read_table(tmp_path / "new" / "results.parquet")
    assert table.to_pylist() == [row.model_dump() for row in tidy(summary)]
    assert [str(field.type) for field in table.schema][3:5] == ["int32", "double"]
    assert json.loads(table.schema.metadata[b"interalign"])["world"] == WORLD


def test_markdown_has_a_row_a_model_and_says_what_is_red() -> None:
    text = markdown(summary_of())
    rows = {row[0]: row[1:] for row in body(text)}
    assert list(rows) == ["base", "tuned", "*flat*", "*mute*"]
    assert rows["tuned"][3].startswith(("3.51", "3.52"))
    assert rows["base"][3].startswith("2.5") and "to" in rows["base"][3]
    assert set(rows["*mute*"][:4]) == {"\N{EN DASH}"}
    assert rows["base"][4] == "baseline"
    assert "4 held-out persons, 3 turns" in text and "of the verdicts on mute are missing" in text


def test_hostile_names_stay_in_their_cell_of_markdown() -> None:
    text = markdown(summary_of(HOSTILE, world=HOSTILE))
    rows = body(text)
    assert len(rows) == 4 and len({len(row) for row in rows}) == 1
    assert "<i>" not in text and "[x]" not in text
    assert r"a\|b &amp; c\_d" in rows[1][0]


@given(NAMES)
def test_no_name_breaks_the_markdown_table(name: str) -> None:
    rows = body(markdown(only(name)))
    assert len(rows) == 1


def test_latex_has_the_rules_the_caption_and_the_dashes() -> None:
    text = as_latex(summary_of())
    for part in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\caption{",
        r"\textbf{3.5",
        r"100 \% made up",
        "4 held-out",
    ):
        assert part in text
    rows = [line.split(" & ") for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(row) for row in rows} == {10}
    mute = next(row for row in rows if "mute" in row[0])
    assert [cell.removesuffix(r" \\") for cell in mute[1:]] == ["--"] * 9


@given(NAMES)
def test_no_name_is_a_command_of_latex(name: str) -> None:
    text = as_latex(only(name))
    row = text.split("\\midrule\n")[1].split(" & ")[0]
    known = r"\\text(backslash|ascii(grave|circum|tilde)|endash|less|greater|bar)\{\}|\\[{}$&#%_]"
    left = re.sub(known, "", row)
    assert not re.search(r'[\\{}$&#%_^~<>|"`\n]', left.replace("-{}", "-")) and "--" not in left
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


def test_options_and_backticks_are_printed_as_they_were_typed() -> None:
    told = "Name another judge (`--judge` --- or \N{EN DASH})."
    text = as_latex(summary_of().model_copy(update={"notes": (told,)}))
    assert r"(\textasciigrave{}-{}-judge\textasciigrave{} -{}-{}- or \textendash{})" in text and "another-" not in text


def test_one_person_is_told_as_one() -> None:
    rows = {"base": chats([2, 3], cases=1)}
    assert "1 held-out person, 2 turns" in markdown(summarise(rows, baseline="base", world=WORLD, resamples=100))
    assert "4 held-out persons, 3 turns" in markdown(summary_of())


def bold(summary: Summary) -> dict[str, int]:
    """How many cells of each model are bold in LaTeX."""
    rows = [line for line in as_latex(summary).splitlines() if line.endswith(r"\\") and "scriptsize" not in line]
    return {row.split(" & ")[0]: row.count(r"\textbf") for row in rows}


def test_bold_is_what_is_shown_to_be_above_all_others() -> None:
    summary = summary_of()

    def changed(**update: float | None) -> Summary:
        pairs = [pair.model_copy(update={"mean_al": pair.mean_al.model_copy(update=update)}) for pair in summary.pairs]
        return summary.model_copy(update={"pairs": tuple(pairs)})

    assert {name for name, count in bold(summary).items() if count} == {"tuned"}
    assert "Bold: above every other model" in as_latex(summary)
    sure = bold(changed(p=0.01))["tuned"]
    # The interval reaches 0, or chance is not excluded, or not tested.
    for unsure in (changed(low=-0.1, p=0.01), changed(p=0.06), changed(p=None)):
        assert bold(unsure)["tuned"] == sure - 1
    for nothing in (
        {"pairs": ()},
        {"models": (summary.models[0].model_copy(update={"red": "Red."}), *summary.models[1:])},
    ):
        text = as_latex(summary.model_copy(update=nothing))
        assert "textbf" not in text and "Bold" not in text


def test_two_models_that_lead_together_are_not_bold() -> None:
    rows = {"base": chats([2, 2.5, 3]), "one": chats([3, 3.5, 4]), "two": chats([3, 3.5, 4])}
    text = as_latex(summarise(rows, baseline="base", world=WORLD, resamples=100))
    assert "textbf" not in text


def test_a_number_below_zero_has_a_minus_sign_in_latex() -> None:
    rows = {"base": chats([4, 3, 2]), "worse": chats([3, 2, 1])}
    text = as_latex(summarise(rows, baseline="base", world=WORLD, resamples=100))
    assert "$-$1.00" in text and " -1" not in text


def test_the_model_index_is_what_the_hub_reads() -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    summary = summary_of(HOSTILE)
    card = hub.ModelCard(f"---\n{as_model_index(summary)}---\n# A model\n").data
    assert card.model_name == HOSTILE
    results = {one.metric_type: one for one in card.eval_results}
    assert results["mean_al"].metric_value == pytest.approx(3.515)
    assert results["mean_al"].metric_args["low"] < 3.515 < results["mean_al"].metric_args["high"]
    assert results["difference"].metric_value == pytest.approx(1)
    assert results["mean_al"].dataset_args["cases"] == 4
    assert "personalization_gap" not in results


@given(NAMES, st.text())
def test_any_text_comes_back_from_the_model_index(name: str, world: str) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    summary = only(name).model_copy(update={"world": world, "baseline": name})
    read = yaml.safe_load(as_model_index(summary, name))["model-index"][0]
    assert read["name"] == name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert read["results"][0]["dataset"]["args"]["baseline"] == read["name"]


def test_a_card_is_that_of_one_model() -> None:
    rows = {"base": chats([2, 3, 4]), "one": chats([2.5, 3.5, 4.5]), "two": chats([2.5, 3.5, 4.5])}
    summary = summarise(rows, baseline="base", world=WORLD, resamples=100)
    with pytest.raises(InputError, match="several were tested"):
        as_model_index(summary)
    with pytest.raises(InputError, match="no tested model 'three'"):
        as_model_index(summary, "three")
    assert 'name: "two"' in as_model_index(summary, "two")
    alone = summarise({"base": rows["base"]}, baseline="base", world=WORLD, resamples=100)
    assert 'name: "base"' in as_model_index(alone)
