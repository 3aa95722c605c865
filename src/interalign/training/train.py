"""`interalign train`: SFT on preferred replies, DPO on sibling pairs, from trees to a checkpoint.

Two backends give the same losses on the same data: `tree` packs each conversation tree into one sequence
(`packing.py`), `trl` hands the rows one by one to TRL's trainers. Held-out personas are refused before anything else.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from interalign.conversations.preferences import Preference, PreferenceConfig, preferences, preferred
from interalign.conversations.tree import Tree
from interalign.errors import InputError, LeakError, MissingExtra, TrainingError
from interalign.llm.hardware import Precision, pick_device, pick_dtype
from interalign.llm.libraries import quiet
from interalign.llm.local import adapter_base, fingerprint, load_tokenizer, load_weights
from interalign.llm.offline import OFFLINE_MODEL, resolve_model
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.roles.responder import policy_prompt
from interalign.run import write_json
from interalign.training.checkpoint import Manifest, installed_versions, save_checkpoint

__all__ = ["DpoConfig", "Job", "LoraSettings", "Method", "SftConfig", "TrainConfig", "train"]

Method: TypeAlias = Literal["sft", "dpo"]

_DEFAULT_PREFERENCE = PreferenceConfig()


class LoraSettings(Value):
    """Low-rank adaptation (Hu et al. 2021)."""

    rank: Annotated[int, Field(ge=1)] = 16
    """Rank of the update matrices."""
    alpha: Annotated[int, Field(ge=1)] = 32
    """Scale: updates are multiplied by alpha / rank."""


class SftConfig(Value):
    """Supervised fine-tuning on the preferred replies."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the trees."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate; linear warm-up over the first tenth, then linear decay."""
    trees_per_step: Annotated[int, Field(ge=1)] = 1
    """Conversation trees per optimizer step."""


class DpoConfig(Value):
    """Direct preference optimization on sibling pairs, starting from the SFT checkpoint."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the trees."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate; linear warm-up over the first tenth, then linear decay."""
    trees_per_step: Annotated[int, Field(ge=1)] = 1
    """Conversation trees per optimizer step."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Strength of the pull back to the SFT checkpoint. The paper used 0.9 for 7B models."""
    sft_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the likelihood of the chosen replies beside the preference loss (0: plain DPO)."""
    trees: Annotated[int, Field(ge=1)] | None = None
    """How many of the trees, from the first, DPO trains on; all of them when it is left out."""


class TrainConfig(Value):
    """What is trained, and how."""

    base: str = OFFLINE_MODEL
    """A model folder, a hub name, or the offline model."""
    backend: Literal["tree", "trl"] = "tree"
    """`tree`: all pairs of a tree in one pass. `trl`: TRL's trainers, pair by pair, as the reference."""
    full_weights: bool = False
    """Train all weights (in float32, unless dtype says otherwise) and no adapter."""
    lora: LoraSettings = LoraSettings()
    """Low-rank adapters; leave the table out of a recipe for the defaults."""
    dtype: Precision = "auto"
    """Number format of the weights that are loaded. `auto`: bfloat16 where the hardware is fast at it; float32
    elsewhere, and for weights that are trained themselves. Adapters are float32 always."""
    sft: SftConfig = SftConfig()
    dpo: DpoConfig = DpoConfig()
    save_every: Annotated[int, Field(ge=1)] = 10
    """Optimizer steps between two savings of the state that a killed training goes on from."""


@dataclass(frozen=True)
class Job:
    """One training stage: what to train on, from which checkpoint, and where the result goes."""

    method: Method
    trees: tuple[Tree, ...]
    pairs: tuple[Preference, ...]
    preference: PreferenceConfig
    system: str
    start: str
    out: Path
    config: TrainConfig
    seed: int

    @property
    def work(self) -> Path:
        """Where the state of an unfinished training is kept; removed when it is done."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    @property
    def stage(self) -> SftConfig | DpoConfig:
        """The settings of this stage."""
        return self.config.sft if self.method == "sft" else self.config.dpo

    def replies(self, number: int) -> list[int]:
        """The replies of one tree that this job computes: preferred ones for SFT, both sides of pairs for DPO."""
        tree = self.trees[number]
        if self.method == "sft":
            return sorted(node for turn in tree.user_turns() for node in preferred(tree, turn, self.preference))
        return sorted({node for pair in self.pairs_of(number) for node in (pair.chosen, pair.rejected)})

    def pairs_of(self, number: int) -> tuple[Preference, ...]:
        """The pairs of one tree."""
        return tuple(self._pairs_by_tree.get(number, ()))

    @cached_property
    def _pairs_by_tree(self) -> dict[int, list[Preference]]:
        by_tree: dict[int, list[Preference]] = {}
        for pair in self.pairs:
            by_tree.setdefault(pair.tree, []).append(pair)
        return by_tree


Progress: TypeAlias = Callable[[int, int, float], None]
"""Called after each optimizer step with steps done, steps in all, and the loss."""


def train(  # noqa: PLR0913 - what a stage reads, what it makes, and how
    method: Method,
    trees: Sequence[Tree],
    personas: Sequence[Persona],
    config: TrainConfig,
    out: Path | str,
    *,
    seed: int,
    start: str | None = None,
    system: str | None = None,
    preference: PreferenceConfig = _DEFAULT_PREFERENCE,
    progress: Progress | None = None,
) -> Manifest:
    """Train one stage and write its checkpoint to `out`. A killed training goes on from its last saved state.

    Args:
        method: `sft` or `dpo`.
        trees: conversation trees of training personas.
        personas: the personas of the trees.
        config: settings.
        out: checkpoint folder to write.
        seed: order of the trees, initial adapter weights.
        start: checkpoint to start from; None: the base model.
        system: the policy's system message; None: the one that the benchmark uses.
        preference: which replies are preferred to which.
        progress: called after every step.

    Raises:
        LeakError: a tree belongs to a held-out persona, or to an unknown one.
        InputError: there is nothing to train on, `out` exists, or an unfinished training of other data or settings lies
            beside it.
        ModelError: the checkpoint to start from cannot be loaded.
        TrainingError: the template does not fit, or the loss is no longer finite.
        StorageError: the disk is full or cannot be written.
    """
    out = Path(out)
    _refuse_heldout(trees, personas)
    if out.exists():
        raise InputError(f"{out} exists already.", mend="choose another name, or remove the folder.")
    _remove_half_saved(out)
    if method == "dpo" and config.dpo.trees is not None:
        trees = trees[: config.dpo.trees]
    pairs = preferences(trees, preference) if method == "dpo" else ()
    job = Job(
        method=method,
        trees=tuple(trees),
        pairs=pairs,
        preference=preference,
        system=policy_prompt() if system is None else system,
        start=resolve_model(start or config.base),
        out=out,
        config=config,
        seed=seed,
    )
    if not any(job.replies(number) for number in range(len(trees))):
        raise InputError(
            f"There is nothing to train {method} on: no reply has a verdict, or no pair differs enough.",
            mend="simulate more conversations, or lower preferences.min_margin in the recipe.",
        )
    return _run(job, progress)


def _remove_half_saved(out: Path) -> None:
    # A process that is killed while it saves a checkpoint leaves it beside its place, under a name of its own.
    for leftover in out.parent.glob(f".{out.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _refuse_heldout(trees: Sequence[Tree], personas: Sequence[Persona]) -> None:
    split = {persona.id: persona.split for persona in personas}
    for number, tree in enumerate(trees):
        if split.get(tree.persona_id) != "train":
            what = "a held-out persona" if tree.persona_id in split else "a persona that is not in the persona file"
            raise LeakError(
                f"Tree {number} is a conversation with {what} ({tree.persona_id}).",
                mend="train on trees of training personas only: what the benchmark tests must not be learnt.",
            )


def _run(job: Job, progress: Progress | None) -> Manifest:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "train") from error
    if job.config.backend == "tree":
        from interalign.training.tree_trainer import run
    else:
        from interalign.training.trl_trainer import run
    data = _data_hash(job)
    _settle_unfinished(job, data)
    transformers.set_seed(job.seed % 2**32)
    model, tokenizer = load_trainable(job)
    try:
        steps, metrics = run(job, model, tokenizer, progress)
    except TrainingError:
        # Going on from these states would only lead here again.
        shutil.rmtree(job.work, ignore_errors=True)
        raise
    manifest = Manifest(
        name=job.out.name,
        method=job.method,
        base=job.config.base,
        parent=job.config.base if job.start == resolve_model(job.config.base) else Path(job.start).name,
        data=data,
        seed=job.seed,
        steps=steps,
        settings=_settings(job),
        versions=installed_versions(),
        metrics=metrics,
    )
    save_checkpoint(job.out, model, tokenizer, manifest)
    shutil.rmtree(job.work, ignore_errors=True)
    return manifest


def _settings(job: Job) -> dict[str, Any]:
    shared = job.config.model_dump(mode="json", include={"backend", "dtype", "full_weights", "lora"})
    return {**shared, **job.stage.model_dump(mode="json")}


def _settle_unfinished(job: Job, data: str) -> None:
    """Note down which training the saved states belong to; refuse to go on from those of another one."""
    path = job.work / "job.json"
    mine = {"method": job.method, "start": fingerprint(job.start), "data": data, "seed": job.seed, **_settings(job)}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_json(path, mine)
        return
    except ValueError as error:
        raise InputError(f"{path} is damaged.", mend=f"remove {job.work}; the training starts anew.") from error
    differences = sorted(key for key in mine.keys() | found.keys() if mine.get(key) != found.get(key))
    if differences:
        raise InputError(
            f"{job.work} holds an unfinished training with other values of: {', '.join(differences)}.",
            mend="put the old values back to finish it, or remove the folder to start anew.",
        )


def load_trainable(job: Job) -> tuple[Any, Any]:
    """The model to train, with its adapter, and its tokenizer.

    Trained weights are float32 unless the settings ask for less: small updates of a bfloat16 weight would round away.
    A start that is an adapter is trained further; on top of full weights a new adapter is put, if there is to be one.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    device = pick_device()
    adapted = adapter_base(job.start)
    frozen = adapted is not None or not job.config.full_weights
    dtype = pick_dtype(device, job.config.dtype if frozen or job.config.dtype != "auto" else "float32")
    model = load_weights(adapted or job.start, dtype)
    with quiet():
        if adapted is not None:
            model = PeftModel.from_pretrained(model, job.start, is_trainable=True)
        elif not job.config.full_weights:
            lora = LoraConfig(
                r=job.config.lora.rank,
                lora_alpha=job.config.lora.alpha,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
            model = get_peft_model(model, lora)
    return model.to(device), load_tokenizer(job.start)


def _data_hash(job: Job) -> str:
    digest = hashlib.sha256(job.system.encode())
    digest.update(job.preference.model_dump_json().encode())
    for tree in job.trees:
        digest.update(tree.model_dump_json().encode())
    for pair in job.pairs:
        digest.update(pair.model_dump_json().encode())
    return digest.hexdigest()
