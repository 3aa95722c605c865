"""The README's tables, from the result files beside this script: nobody types a number that no file holds.

    python benchmarks/readme_tables.py

Each result file holds the command, the machine and the versions beside its `result`: `demo.json` that of `make demo`
(its `eval/summary.json`), `offline_hour.json` that of `interalign run recipes/offline_hour.toml`, `world_card.json`
that of `world_card.py --json`, `persona_pool.json` that of `persona_pool.py`, `simulator_checks.json` that of
`simulator_checks.py --json`, `conversations.json` that of `conversations.py`, `tree_packing.json` that of
`tree_packing.py`, `evaluation.json` that of `evaluation.py`, `evaluation_statistics.json` that of
`evaluation_statistics.py`, `calibration.json` that of `interalign personas calibrate --json`. A test checks that the
README holds exactly these tables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interalign.evaluation.notation import number
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    print(demo_table())
    print()
    print(offline_hour())
    print()
    print(world_card())
    print()
    print(calibration())
    print()
    print(persona_pool())
    print()
    print(simulator_checks())
    print()
    print(conversations())
    print()
    print(tree_packing())
    print()
    print(evaluation())
    print()
    print(evaluation_statistics())


def demo_table() -> str:
    summary = Summary.model_validate(result("demo"))
    turns = [f"AL({turn})" for turn in range(1, summary.turns + 1)]
    rows = [
        [
            f"*{model.name}*" if model.kind == "control" else model.name,
            *(number(level.value) for level in model.al),
            interval(model.mean_al),
            interval(model.difference, signed=True),
            number(model.ir.value, signed=True),
            number(model.n_ir.value, signed=True),
            number(model.r2.value),
            number(model.gap.value, signed=True),
            number(model.uptake.value),
            number(model.listening.value if model.listening else None, signed=True),
        ]
        for model in summary.models
    ]
    return as_markdown(["model", *turns, "mean AL", "to base", "IR", "N-IR", "R2", "gap", "uptake", "listening"], rows)


def offline_hour() -> str:
    """What an evening of training on a CPU teaches, each figure with its interval where it has one."""
    summary = Summary.model_validate(result("offline_hour"))
    turns = (1, 5, summary.turns)
    rows = [
        [
            f"*{model.name}*" if model.kind == "control" else model.name,
            *(interval(model.al[turn - 1]) for turn in turns),
            interval(model.mean_al),
            interval(model.difference, signed=True),
            interval(model.ir, signed=True, digits=3),
            interval(model.gap, signed=True),
            interval(model.uptake),
            interval(model.listening, signed=True),
        ]
        for model in summary.models
    ]
    headers = ["model", *(f"AL({turn})" for turn in turns), "mean AL", "to base", "IR", "gap", "uptake", "listening"]
    return as_markdown(headers, rows)


def world_card() -> str:
    card = result("world_card")
    turns = [1, 2, 3, 5, 7, card["turns"]]
    ceiling = card["al"]["disclosed-only oracle"][-1]
    rows = [
        [f"*{name}*", *(number(levels[turn - 1]) for turn in turns), number(levels[-1] - ceiling, signed=True)]
        for name, levels in card["al"].items()
    ]
    headers = ["responder", *(f"AL({turn})" for turn in turns), "to disclosed-only oracle"]
    return as_markdown(headers, rows)


def calibration() -> str:
    """How the offline encoder scores copies and strangers, and what its borders make of them."""
    rows = []
    for found in result("calibration"):
        for one in (*found["copies"], found["different"]):
            low, middle, high = one["quantiles"][1:4]
            rows.append(
                [
                    f"{found['kind']}: {one['label']}",
                    f"{one['count']:,}",
                    *(number(cosine) for cosine in (low, middle, high)),
                    f"{one['at_threshold']:.0%} (of {found['threshold']:.2f})",
                    f"{one['at_gate']:.0%} (of {found['gate']:.2f})",
                ]
            )
    return as_markdown(["cosine to", "pairs", "5 %", "median", "95 %", "reach the threshold", "reach the gate"], rows)


def persona_pool() -> str:
    """Milliseconds for one candidate in a batch, and megabytes."""
    found = result("persona_pool")
    headers = ["one candidate", "pool", "ms", "speed-up", "near-duplicates found", "file, MB", "memory, MB"]
    return as_markdown(headers, [*screening_rows(found["screening"]), *search_rows(found)])


def simulator_checks() -> str:
    """What the checks of user simulators find, and how often they find it where it is not."""
    found = result("simulator_checks")
    rows = [
        [
            name,
            f"{one['found']:,} of {one['planted']:,}",
            f"{one['unseen_found']} of {one['unseen']}" if one["unseen"] else "–",
            digits_or_none(1000 * one["alarms_rule_based"] / found["messages_rule_based"]),
        ]
        for name, one in found["checks"].items()
    ]
    headers = ["check", "planted faults found", "in words not tuned on", "false alarms in 1,000 rule-based messages"]
    return as_markdown(headers, rows)


def conversations() -> str:
    """How fast conversations are for a server that takes so long for an answer, beside the order of the release."""
    found = result("conversations")
    alone = {one["delay_s"]: one for one in found["alone"]}
    rows = []
    for one in found["side_by_side"]:
        of_one = {} if one["sigma"] else alone[one["delay_s"]]
        rows.append(
            [
                f"{1000 * one['delay_s']:.0f} ms" + (f", log-normal ({one['sigma']:g})" if one["sigma"] else ""),
                digits(one["seconds"]["median"]),
                digits(one["calls_per_second"]),
                f"{one['of_ideal']:.0%}",
                f"{of_one['delays_per_turn']:.1f}" if of_one else "–",
                f"{of_one['release_delays_per_turn']:.1f}" if of_one else "–",
                digits(of_one["gain"]) if of_one else "–",
            ]
        )
    headers = [
        "an answer takes",
        "100 conversations, s",
        "calls/s",
        "of the ideal",
        "one alone: delays a turn",
        "release's order: delays a turn",
        "release's order: times as long",
    ]
    return as_markdown(headers, rows)


def tree_packing() -> str:
    """Tokens and seconds of an epoch of DPO, on packed trees and pair by pair."""
    rows = []
    for one in result("tree_packing")["shapes"]:
        tree, trl = one["tree"], one["trl"]
        timed = (digits(trl["epoch_seconds"]), digits(one["times_faster"])) if trl else ("–", "–")
        rows.append(
            [
                f"{one['turns']} turns, {one['siblings']} siblings",
                f"{one['pairs']:,}",
                f"{one['packed']:,}",
                f"{one['pair_by_pair']:,}",
                digits(one["fewer_tokens"]),
                digits(tree["epoch_seconds"]),
                *timed,
                f"{tree['peak_memory_mib']:,.0f}",
                f"{trl['peak_memory_mib']:,.0f}" if trl else "–",
            ]
        )
    headers = ["a tree of", "pairs", "tokens packed", "pair by pair", "times fewer", "packed, s", "TRL, s"]
    return as_markdown([*headers, "times faster", "packed, MiB", "TRL, MiB"], rows)


def evaluation() -> str:
    """How near the benchmark comes to what a server could do."""
    rows = [
        [
            "yes" if one["controls"] else "no",
            f"{one['calls']:,}",
            f"{one['tokens'] / 1e6:.1f}",
            digits(one["ideal_seconds"]),
            digits(one["seconds"]),
            f"{one['of_ideal']:.0%}",
            digits(one["calls_per_second"]),
        ]
        for one in result("evaluation")["runs"]
    ]
    headers = ["controls", "calls", "million tokens", "ideal, s", "it took, s", "of the ideal", "calls/s"]
    return as_markdown(headers, rows)


def evaluation_statistics() -> str:
    """How often 95 % intervals hold the truth, least and most often over mixes of what makes scores differ."""
    titles = {
        "mean_al": "mean AL",
        "ir": "IR",
        "difference": "difference",
        "ir_difference": "difference of IR",
        "relative": "relative difference",
        "judges": "difference of judges",
    }
    cells: dict[tuple[str, float], list[dict[str, float]]] = {}
    for one in result("evaluation_statistics")["coverage"]:
        cells.setdefault((one["design"], one["lost"]), []).append(one)
    rows = [
        [
            design,
            f"{lost:.0%}",
            *(f"{min(one[name] for one in mixes):.1%} to {max(one[name] for one in mixes):.1%}" for name in titles),
        ]
        for (design, lost), mixes in cells.items()
    ]
    return as_markdown(["100 cases of", "verdicts missing", *titles.values()], rows)


def digits_or_none(value: float) -> str:
    return "0" if not value else digits(value)


def screening_rows(found: dict[str, Any]) -> list[list[str]]:
    titles = {
        "release": "pool and candidate encoded for every comparison (the paper's release)",
        "pool_encoded_anew": "pool encoded for every candidate",
        "one_by_one": "pool kept, candidates encoded one by one",
        "in_batches": f"pool kept, candidates encoded in batches of {found['batch']}",
        "vectors_known": "all embeddings known",
    }
    pool, speedup = f"{found['pool']:,}", {"release": 1, **found["release_to"]}
    return [
        [title, pool, digits(1000 * found["seconds_per_candidate"][name]["median"]), digits(speedup[name]), *["–"] * 3]
        for name, title in titles.items()
    ]


def search_rows(found: dict[str, Any]) -> list[list[str]]:
    rows = []
    exact = found["exact"]
    for name, seconds in exact["seconds_per_call"].items():
        memory = [megabytes(exact["memory"][name][part]) for part in ("file_bytes", "added_bytes")]
        each = digits(1000 * seconds["median"] / exact["queries"])
        rows.append([f"search: exact, {name} file", f"{exact['rows']:,}", each, "–", "all", *memory])
    for one in found["approximate"]:
        each = digits(1000 * one["seconds_per_call"]["approximate"]["median"] / one["queries_per_call"])
        near = "–" if one["near_reported"] is None else f"{one['near_reported']:.1%}"
        memory = ["–", megabytes(one["index_bytes"])]
        rows.append(["search: approximate, in memory", f"{one['rows']:,}", each, "–", near, *memory])
    return rows


def megabytes(count: int | None) -> str:
    return "–" if count is None else digits(count / 1e6)


def digits(value: float) -> str:
    """Three digits, or as many as a whole number has."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def result(name: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = whole["result"]
    return found


def interval(estimate: Estimate | None, *, signed: bool = False, digits: int = 2) -> str:
    if estimate is None or estimate.value is None:
        return number(None)
    value, low, high = (number(one, digits, signed=signed) for one in (estimate.value, estimate.low, estimate.high))
    return value if estimate.low is None else f"{value} ({low} to {high})"


def as_markdown(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
