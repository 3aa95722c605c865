"""`interalign train`: SFT on preferred replies, DPO on sibling pairs, from trees to a checkpoint.

Two ways to pack give the same losses on the same data: `tree` packs each conversation tree into one sequence
(`packing.py`), `trl` hands the rows one by one to TRL's trainers. Held-out personas are refused before anything else.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from interalign.conversations.preferences import PreferenceConfig
from interalign.conversations.tree import Tree
from interalign.errors import InputError, LeakError, MissingExtra, ModelError, TrainingError
from interalign.llm.hardware import Precision
from interalign.llm.local import fingerprint
from interalign.llm.offline import OFFLINE_MODEL, resolve_model
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.roles.responder import policy_prompt
from interalign.run import write_json
from interalign.training import processes
from interalign.training.attention import Attention
from interalign.training.checkpoint import Manifest, installed_versions, save_checkpoint
from interalign.training.iterated import IteratedConfig
from interalign.training.job import Job, LeftOut, Lesson, Method, Nash, Notice, Progress, lessons_of, silent
from interalign.training.mixture import MixConfig, read_chats
from interalign.training.notes import induction_trees, noted
from interalign.training.online.grpo import GrpoConfig
from interalign.training.weights import LoraSettings, Quantization, load_trainable

if TYPE_CHECKING:
    from interalign.training.loop import WatchedTrainer

__all__ = ["DpoConfig", "InductionConfig", "SftConfig", "TrainConfig", "settle_unfinished", "train", "what_to_learn"]

_DEFAULT_PREFERENCE = PreferenceConfig()


class InductionConfig(Value):
    """Before SFT: what remarks of users say of them, one remark at a time, for policies that take notes."""

    epochs: Annotated[float, Field(gt=0)] = 5.0
    """Passes over the remarks, each of which is learnt once a pass however often it was made."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate; linear warm-up over the first tenth, then linear decay."""
    trees_per_step: Annotated[int, Field(ge=1)] = 32
    """Remarks per optimizer step, on each process; each is a tree of two messages."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Options of TRL's SFTConfig to pass through."""


class SftConfig(Value):
    """Supervised fine-tuning on the preferred replies."""

    start: Literal["base", "induction"] = "base"
    """The checkpoint that it starts from; `sft-rejected` starts from there as well."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the trees."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate; linear warm-up over the first tenth, then linear decay."""
    trees_per_step: Annotated[int, Field(ge=1)] = 1
    """Conversation trees per optimizer step, on each process."""
    mix: MixConfig | None = None
    """Chats of another dataset to learn beside the trees; unset: none."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Options of TRL's SFTConfig to pass through, such as optim, weight_decay, lr_scheduler_type, deepspeed or fsdp."""


class DpoConfig(Value):
    """Direct preference optimization on sibling pairs."""

    start: Literal["sft", "base"] = "sft"
    """The checkpoint that it starts from, which is also its reference; rounds and GRPO start from there as well."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the trees."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate; linear warm-up over the first tenth, then linear decay."""
    trees_per_step: Annotated[int, Field(ge=1)] = 1
    """Conversation trees per optimizer step, on each process."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Strength of the pull back to the start. The paper used 0.9 for 7B models."""
    sft_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the likelihood of the chosen replies beside the preference loss (0: plain DPO)."""
    trees: Annotated[int, Field(ge=1)] | None = None
    """How many of the trees, from the first, DPO trains on; all of them when it is left out. Rounds train on all."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Options of TRL's DPOConfig to pass through, such as loss_type, optim, deepspeed or fsdp. The losses aot and
    aot_unpaired sort the pairs of a sequence."""


class TrainConfig(Value):
    """What is trained, and how."""

    base: str = OFFLINE_MODEL
    """A model folder, a hub name, or the offline model."""
    packing: Literal["tree", "trl"] = "tree"
    """`tree`: all pairs of a tree in one pass. `trl`: TRL's trainers, pair by pair, as the reference; models that
    cannot be trained on packed trees are trained so, and it is said. INPO and COMAL need trees."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of a packed sequence; longer trees are split, short ones lie together. Unset: 8,192; 4,096 with a dense
    mask, which costs the square."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Tokens of the longest conversation to train on, the reply included; replies that come later are left out and
    counted. Unset: what the model reads."""
    attention: Attention | None = None
    """What computes the attention of packed trees: `flex_attention`, `tree` (chain by chain) or `sdpa` (a dense mask);
    unset: FlexAttention on a GPU, chain by chain elsewhere."""
    full_weights: bool = False
    """Train all weights (in float32, unless dtype says otherwise) and no adapter."""
    quantization: Quantization = "none"
    """Load the frozen weights in 4 bits (`nf4`, QLoRA) or 8 (`int8`)."""
    lora: LoraSettings = LoraSettings()
    """Low-rank adapters; leave the table out of a recipe for the defaults."""
    dtype: Precision = "auto"
    """Number format of the weights that are loaded, and of products. `auto`: bfloat16 where the hardware is fast at it,
    float32 elsewhere; weights that are trained themselves are float32 then, and multiplied in bfloat16 all the same
    (GRPO, and TRL's options bf16, fp16, fsdp and deepspeed, go by their own rule). Adapters are float32 always."""
    notes: bool = False
    """Each reply begins with notes on the user: the wishes heard so far, as the ledger has them. They are thinking,
    which the model keeps in its own view of the chat and nobody else sees. They need room, some 30 tokens with
    rule-based users: `max_tokens` of benchmark, train.grpo and train.iterated.sampling."""
    induction: InductionConfig = InductionConfig()
    sft: SftConfig = SftConfig()
    dpo: DpoConfig = DpoConfig()
    iterated: IteratedConfig = IteratedConfig()
    """Rounds of simulating with the policy and training on it: iterated DPO, INPO and COMAL."""
    grpo: GrpoConfig = GrpoConfig()
    """Online reinforcement learning against simulated users."""
    save_every: Annotated[int, Field(ge=1)] = 10
    """Optimizer steps between two savings of the state that a killed training goes on from."""
    report_to: tuple[str, ...] = ()
    """Where metrics go, as transformers names it: wandb, trackio, tensorboard and others; none by default."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.sft.start == "induction" and not self.notes:
            raise ValueError("sft.start = 'induction' is for policies that take notes: set notes = true")
        return self

    @property
    def both(self) -> tuple[Method, ...]:
        """SFT and DPO, with what SFT starts from before them."""
        return (*(("induction",) if self.sft.start == "induction" else ()), "sft", "dpo")

    def start(self, method: Method) -> Literal["base", "induction", "sft"]:
        """The checkpoint that a method starts from."""
        match method:
            case "induction":
                return "base"
            case "dpo":
                return self.dpo.start
            case _:
                return self.sft.start

    def stage(self, method: Method) -> InductionConfig | SftConfig | DpoConfig:
        """The settings of one method on trees."""
        match method:
            case "induction":
                return self.induction
            case "dpo":
                return self.dpo
            case _:
                return self.sft


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
    notice: Notice = silent,
    nash: Nash | None = None,
) -> Manifest:
    """Train one stage and write its checkpoint to `out`. A killed training goes on from its last saved state.

    Several processes that were connected (`processes.connect`) train together when each calls this with the same
    arguments; the first one writes. It must be the same number of processes that goes on.

    Args:
        method: `sft`, its control `sft-rejected`, `dpo`, or `induction`.
        trees: conversation trees of training personas.
        personas: the personas of the trees.
        config: settings.
        out: checkpoint folder to write.
        seed: order of the trees, initial adapter weights.
        start: checkpoint to start from; None: the base model.
        system: the policy's system message; None: the one that the benchmark uses.
        preference: which replies are preferred to which.
        progress: called after every step.
        notice: called with what is left out, and when the trees cannot be packed.
        nash: learn by INPO's step in place of DPO's loss; needs packed trees.

    Raises:
        LeakError: a tree belongs to a held-out persona, or to an unknown one.
        InputError: there is nothing to train on, `out` exists, or an unfinished training of other data or settings lies
            beside it.
        ModelError: the checkpoint to start from cannot be loaded.
        TrainingError: the template does not fit, the loss is no longer finite, or (LostProcess) another process ended.
        StorageError: the disk is full or cannot be written.
    """
    out = Path(out)
    _refuse_heldout(trees, personas)
    if out.exists():
        raise InputError(f"{out} exists already.", mend="choose another name, or remove the folder.")
    if processes.is_first():
        _remove_half_saved(out)
    learnt, lessons, left_out = what_to_learn(method, trees, config, preference)
    told = left_out.told("pairs" if method == "dpo" else "replies")
    if told:
        notice(told)
    mix = config.sft.mix if method in ("sft", "sft-rejected") else None
    job = Job(
        method=method,
        trees=learnt,
        lessons=lessons,
        chats=read_chats(mix, len(lessons), seed) if mix else (),
        system=policy_prompt() if system is None else system,
        start=resolve_model(start or config.base),
        out=out,
        config=config,
        seed=seed,
        nash=nash,
        notice=notice,
    )
    with processes.losing_others():
        return _run(job, progress)


def what_to_learn(
    method: Method, trees: Sequence[Tree], config: TrainConfig, preference: PreferenceConfig
) -> tuple[tuple[Tree, ...], tuple[Lesson, ...], LeftOut]:
    """The trees that a method trains on, what it learns of them, and how much is left out.

    Raises:
        InputError: there is nothing to train on.
    """
    if method == "induction":
        remarks = induction_trees(trees)
        return remarks, tuple(Lesson(number, replies=(1,)) for number in range(len(remarks))), LeftOut()
    if method == "dpo" and config.dpo.trees is not None:
        trees = trees[: config.dpo.trees]
    lessons, left_out = lessons_of(method, trees, preference)
    if not lessons:
        raise InputError(
            f"There is nothing to train {method} on: no reply has a verdict, or no pair differs enough.",
            mend="simulate more conversations, or lower preferences.min_margin in the recipe.",
        )
    if config.notes:
        return noted(trees), lessons, left_out
    return tuple(trees), lessons, left_out


def _remove_half_saved(out: Path) -> None:
    # A process that is killed while it saves a checkpoint leaves it beside its place, under a name of its own.
    mine = re.compile(rf"\.{re.escape(out.name)}-\w{{8}}")
    for leftover in out.parent.glob(f".{out.name}-*"):
        if mine.fullmatch(leftover.name):
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
    from interalign.training.loop import fit, gathered_weights

    paid_for, at_home = any(job.work.glob("checkpoint-*")), job.out.parent.exists()
    if processes.is_first():
        settle_unfinished(job.work, _identity(job))
    try:
        transformers.set_seed(job.trl_seed)
        model, tokenizer = load_trainable(job.start, job.config, packed=job.packed)
        trainer, packing = _trainer(job, model, tokenizer, progress)
        _refuse_unspread(job, trainer)
        steps, metrics = fit(trainer, job)
    except processes.LostProcess:
        raise
    except (InputError, MissingExtra, ModelError, TrainingError) as error:
        # Going on from states that led to a loss that is no number would only lead there again. All else may be put
        # right, and the states of an earlier command with it.
        if processes.is_first() and (isinstance(error, TrainingError) or not paid_for):
            _forget_unfinished(job.work, at_home=at_home)
        raise
    manifest = Manifest(
        name=job.out.name,
        method=job.nash.method if job.nash else job.method,
        base=job.config.base,
        parent=job.config.base if job.start == resolve_model(job.config.base) else Path(job.start).name,
        data=job.data_hash,
        seed=job.seed,
        steps=steps,
        settings={**_settings(job), "packing": packing},
        versions=installed_versions(),
        metrics=metrics,
    )
    weights = gathered_weights(trainer)
    if processes.is_first():
        save_checkpoint(job.out, model, tokenizer, manifest, weights)
    # The last state goes when the checkpoint stands, and nobody goes on before.
    processes.meet()
    if processes.is_first():
        shutil.rmtree(job.work, ignore_errors=True)
    return manifest


def _refuse_unspread(job: Job, trainer: WatchedTrainer) -> None:
    for name in ("fsdp", "deepspeed"):
        if getattr(trainer.args, name) and trainer.accelerator.distributed_type != name.upper():
            # accelerate leaves it out in silence.
            raise InputError(
                f"{job.method} asks for {name}, which spreads a model over GPUs, one for each process; here it cannot.",
                mend=f"start it with --launch or torchrun where there are GPUs, or leave {name} out.",
            )


def _trainer(
    job: Job, model: Any, tokenizer: Any, progress: Progress | None
) -> tuple[WatchedTrainer, Literal["tree", "trl"]]:
    """The trainer, and how it packs."""
    from interalign.training import tree_trainer, trl_trainer
    from interalign.training.packable import Unpackable

    if job.packed:
        try:
            return tree_trainer.make_trainer(job, model, tokenizer, progress), "tree"
        except Unpackable as reason:
            if job.nash is not None:
                raise
            job.notice(f"{reason.what} It is trained pair by pair.")
            with suppress(ValueError):
                model.set_attn_implementation("sdpa")
    return trl_trainer.make_trainer(job, model, tokenizer, progress), "trl"


_SHARED_SETTINGS = {"packing", "max_tokens", "max_length", "dtype", "quantization", "full_weights", "lora", "notes"}


def _settings(job: Job) -> dict[str, Any]:
    shared = job.config.model_dump(mode="json", include=_SHARED_SETTINGS)
    if job.nash is not None:
        anchor = {"anchor": Path(job.nash.anchor).name, "anchor_weights": fingerprint(job.nash.anchor)}
        # INPO's step has no beta, and rounds learn from all their trees.
        shared |= {**job.nash.model_dump(mode="json", exclude={"anchor", "method"}), **anchor}
        return {**shared, **job.stage.model_dump(mode="json", exclude={"beta"}), "processes": processes.count()}
    # Steps see `trees_per_step` trees of each process, so with more of them it would be another training.
    return {**shared, **job.stage.model_dump(mode="json"), "processes": processes.count()}


def _identity(job: Job) -> dict[str, Any]:
    origin = {"method": job.method, "start": fingerprint(job.start), "data": job.data_hash, "seed": job.seed}
    # The settings hold the stage's `start`, which is a name: the weights behind it may be others by now.
    return {**_settings(job), **origin}


def settle_unfinished(work: Path, mine: Mapping[str, Any]) -> None:
    """Note down which training the states in the folder `work` belong to.

    Raises:
        InputError: they belong to another one, or the note is damaged.
    """
    path = work / "job.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_json(path, mine)
        return
    except ValueError as error:
        raise InputError(f"{path} is damaged.", mend=f"remove {work}; the training starts anew.") from error
    differences = sorted(key for key in mine.keys() | found.keys() if mine.get(key) != found.get(key))
    if differences:
        raise InputError(
            f"{work} holds an unfinished training with other values of: {', '.join(differences)}.",
            mend="put the old values back to finish it, or remove the folder to start anew.",
        )


def _forget_unfinished(work: Path, *, at_home: bool) -> None:
    """Remove the states of a training that cannot go on, and the folder around them if it came with them."""
    shutil.rmtree(work, ignore_errors=True)
    if not at_home:
        with suppress(OSError):
            work.parent.rmdir()
