"""What packing trees saves in DPO: tokens, time and memory, against TRL's trainer on the same pairs.

    python benchmarks/tree_packing.py

Trees of ten turns with two siblings and messages of about 60 tokens, SmolLM2 with a LoRA adapter, in the number format
that the machine is fast at, the reference computed before the clock starts. Both ways train on the same pairs for one
epoch, each time in a process of its own. TRL's trainer gets its rows one pair at a time, without padding, which
is its fastest setting on a CPU; on a GPU name several row counts (`--rows 1 2 4 8`), and the fastest is taken. Other
shapes of trees show how both grow; what would take TRL's trainer very long is counted and not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.tree import Node, Tree
from interalign.llm.hardware import keep_freed_memory, machine
from interalign.llm.offline import OFFLINE_MODEL
from interalign.personas.seeds import seeds
from interalign.roles.judge import Verdict
from interalign.roles.responder import policy_prompt
from interalign.run import write_json
from interalign.training.job import Job, lessons_of
from interalign.training.train import DpoConfig, TrainConfig

RESULTS = Path(__file__).parent / "results" / "tree_packing.json"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")
WAYS = ("tree", "trl")

console = Console()
progress = Console(stderr=True)


SHAPES = ((10, 2), (2, 2), (5, 2), (20, 2), (10, 3), (10, 4), (10, 8))
"""Turns and siblings of a tree; the first is the one that is repeated."""


def main() -> None:
    args = parsed()
    if args.one:
        print(json.dumps(train_once(args)))
        return
    load_before = load()
    result = measure(args)
    found = {
        "command": " ".join(["python benchmarks/tree_packing.py", *without_paths(sys.argv[1:])]),
        "machine": machine(),
        "load_average": {"before": load_before, "after": load()},
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "seed": args.seed,
        "result": result,
    }
    write_json(args.json, found)
    console.print(as_table(result))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=OFFLINE_MODEL, help="a folder, a hub name, or the offline model")
    parser.add_argument("--trees", type=int, default=1, help="trees of an epoch, which is that many optimizer steps")
    parser.add_argument("--words", type=int, default=45, help="words of a message; 45 are about 60 tokens")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of packed trees of the first shape")
    parser.add_argument("--trl-repeats", type=int, default=1, help="epochs with TRL")
    parser.add_argument("--rows", type=int, nargs="+", default=[1], help="pairs that TRL's trainer takes at once")
    parser.add_argument("--most", type=int, default=15_000, help="tokens beyond which TRL's trainer is not timed")
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="how many shapes of trees, from the first")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--turns", type=int, default=SHAPES[0][0], help=argparse.SUPPRESS)
    parser.add_argument("--siblings", type=int, default=SHAPES[0][1], help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    shapes = []
    for number, (turns, siblings) in enumerate(SHAPES[: args.shapes]):
        shape = argparse.Namespace(**{**vars(args), "turns": turns, "siblings": siblings})
        one = counted(shape)
        tree = [in_own_process("tree", shape, rows=1) for _ in range(1 if number else args.repeats)]
        trl = {}
        if one["pair_by_pair"] <= args.most:
            trl = {rows: [in_own_process("trl", shape, rows) for _ in range(args.trl_repeats)] for rows in args.rows}
        one |= {"tree": summary(tree), "trl": None, "times_faster": None}
        if trl:
            best = min(trl, key=lambda rows: median(run["epoch_seconds"] for run in trl[rows]))
            one["trl"] = {**summary(trl[best]), "rows_at_once": best}
            one["times_faster"] = one["trl"]["epoch_seconds"] / one["tree"]["epoch_seconds"]
        shapes.append(one)
    return {"model": Path(args.model).name, "trees": args.trees, "words": args.words, "shapes": shapes}


def counted(args: argparse.Namespace) -> dict[str, Any]:
    """Tokens that go through the model in an epoch, packed and pair by pair."""
    from interalign.llm.local import load_tokenizer
    from interalign.training.packing import arranged
    from interalign.training.tree_trainer import examples_of
    from interalign.training.trl_trainer import rows

    tokenizer = load_tokenizer(args.model)
    job = job_of(args, Path("dpo"))
    examples, _ = examples_of(job, tokenizer, sys.maxsize)
    pairs, _ = rows(job, tokenizer, sys.maxsize)
    sides = [[*row["prompt"], *row[side]] for row in pairs for side in ("chosen", "rejected")]
    apart = sum(len(tokenizer.apply_chat_template(side, return_dict=True)["input_ids"]) for side in sides)
    packed = sum(part.tokens for example in examples for sequence in arranged([example], 4096) for part in sequence)
    return {
        "turns": args.turns,
        "siblings": args.siblings,
        "pairs": len(pairs),
        "packed": packed,
        "pair_by_pair": apart,
        "fewer_tokens": apart / packed,
    }


def in_own_process(way: str, args: argparse.Namespace, rows: int) -> dict[str, Any]:
    progress.print(f"{args.turns} turns, {args.siblings} siblings: {way}{f', {rows} at once' if way == 'trl' else ''}")
    given = ("model", "trees", "turns", "siblings", "words", "seed")
    options = [part for name in given for part in (f"--{name}", str(getattr(args, name)))]
    call = [sys.executable, __file__, "--one", way, "--rows", str(rows), *options]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(call)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of each number over runs, and how many there were."""
    return {"runs": len(runs), **{name: median(one[name] for one in runs) for name in runs[0]}}


# One epoch.


def train_once(args: argparse.Namespace) -> dict[str, Any]:
    """Train for an epoch in this process and tell what it took. It keeps freed memory, as `interalign train` does."""
    keep_freed_memory()
    import torch

    from interalign.training import tree_trainer, trl_trainer
    from interalign.training.weights import load_trainable

    with tempfile.TemporaryDirectory() as folder:
        job = job_of(args, Path(folder) / "dpo")
        torch.manual_seed(args.seed)
        model, tokenizer = load_trainable(job.start, job.config)
        clock = Clock(model)
        began = time.perf_counter()
        module = tree_trainer if args.one == "tree" else trl_trainer
        trainer = module.make_trainer(job, model, tokenizer)
        setup = time.perf_counter() - began
        collator = trainer.data_collator
        packing = Clock()

        def timed(rows: Any) -> Any:
            with packing:
                return collator(rows)

        trainer.data_collator = timed
        clock.tokens = 0
        began = time.perf_counter()
        trainer.train()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        epoch = time.perf_counter() - began
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return {
        "pairs": sum(len(lesson.pairs) for lesson in job.lessons),
        "tokens": clock.tokens,
        "setup_seconds": setup,
        "epoch_seconds": epoch,
        "packing_share": packing.seconds / epoch,
        "peak_memory_mib": gpu or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "last_loss": next(row["loss"] for row in reversed(trainer.state.log_history) if "loss" in row),
    }


class Clock:
    """Seconds within its blocks; with a model, the tokens that go through it as well."""

    def __init__(self, model: Any = None) -> None:
        self.seconds = 0.0
        self.tokens = 0
        if model is not None:
            model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, module: Any, inputs: Any, output: Any) -> None:
        self.tokens += output.shape[0] * output.shape[1]

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *args: object) -> None:
        self.seconds += time.perf_counter() - self._began


def job_of(args: argparse.Namespace, out: Path) -> Job:
    trees = tuple(made_tree(args, number) for number in range(args.trees))
    packing = args.one or "tree"
    # An optimizer step for each tree, both ways: for TRL that many accumulated rows.
    trl = {} if packing == "tree" else {"per_device_train_batch_size": args.rows[0]}
    config = TrainConfig(
        base=args.model,
        packing=packing,
        save_every=10**6,
        dpo=DpoConfig(start="base", trl={key: value for key, value in trl.items() if value != 1}),
    )
    return Job(
        method="dpo",
        trees=trees,
        lessons=lessons_of("dpo", trees, PreferenceConfig())[0],
        system=policy_prompt(),
        start=args.model,
        out=out,
        config=config,
        seed=args.seed,
    )


WORDS = sorted({word for seed in seeds("profile") for word in seed.text.split() if word.isalpha()})


def made_tree(args: argparse.Namespace, number: int) -> Tree:
    """A tree of so many turns; each turn has siblings of which one goes on, and one is preferred to all others."""
    random = Random(f"{args.seed} {number}")
    nodes: list[Node] = []
    above: int | None = None
    for _ in range(args.turns):
        nodes.append(Node(parent=above, role="user", content=message(random, args.words), source="user"))
        asked = len(nodes) - 1
        goes_on = random.randrange(args.siblings)
        for sibling in range(args.siblings):
            verdict = Verdict(score=4.0 if sibling == 0 else 2.0)
            text = message(random, args.words)
            nodes.append(
                Node(
                    parent=asked,
                    role="assistant",
                    content=text,
                    source=f"sibling {sibling}",
                    verdict=verdict,
                    continued=sibling == goes_on,
                )
            )
        above = asked + 1 + goes_on
    return Tree(persona_id=f"made {number}", seed=args.seed, nodes=tuple(nodes))


def message(random: Random, words: int) -> str:
    count = max(1, round(random.gauss(words, words / 5)))
    return " ".join(random.choices(WORDS, k=count)).capitalize() + "."


def load() -> list[float] | None:
    """How busy the machine is: above the number of its cores, times say little."""
    return [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else None


def without_paths(arguments: Sequence[str]) -> list[str]:
    """A command's options as they may be published: the names of files and folders are left out."""
    return ["PATH" if os.sep in argument else argument for argument in arguments]


# What is shown.


def as_table(found: Mapping[str, Any]) -> Table:
    table = Table(title=f"DPO with {found['model']}, {found['trees']} tree(s) an epoch", box=SIMPLE)
    for name in ("turns", "siblings", "pairs", "packed", "pair by pair", "ratio", "packed, s", "TRL, s", "ratio"):
        table.add_column(name, justify="right")
    for name in ("packing", "MiB", "TRL, MiB"):
        table.add_column(name, justify="right")
    for one in found["shapes"]:
        tree, trl = one["tree"], one["trl"]
        table.add_row(
            *(str(one[name]) for name in ("turns", "siblings", "pairs")),
            *(f"{one[name]:,}" for name in ("packed", "pair_by_pair")),
            f"{one['fewer_tokens']:.1f}",
            f"{tree['epoch_seconds']:.1f}",
            f"{trl['epoch_seconds']:.1f}" if trl else "–",
            f"{one['times_faster']:.1f}" if trl else "–",
            f"{tree['packing_share']:.2%}",
            f"{tree['peak_memory_mib']:,.0f}",
            f"{trl['peak_memory_mib']:,.0f}" if trl else "–",
        )
    return table


if __name__ == "__main__":
    main()
