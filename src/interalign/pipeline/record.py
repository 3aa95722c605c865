"""What an evaluation tells of itself beside its verdicts: who played, what they were told, and what was lacking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from pydantic import Field

from interalign.conversations.environment import answers_freely, prompts_of, roles_of
from interalign.evaluation.baselines import prompt_hashes as method_hashes
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.evaluation.cases import CaseCard, card
from interalign.evaluation.controls import COUNTERFACTUALS
from interalign.evaluation.rows import TurnRow
from interalign.llm.account import Account, RoleUsage
from interalign.llm.backends import label
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.pipeline.tested import Tested
from interalign.roles.llm.player import RoleConfig, instructions, packaged, prompt_hashes

__all__ = ["WORLD", "Evaluation", "prompts_used", "recorded", "world_of"]

WORLD = "Rule-based users and a rule-based judge, not human beings"
"""What every result of rules says of its users."""


class Evaluation(Value):
    """What `eval/evaluation.json` tells beside the summary."""

    world: str
    cases: CaseCard
    """The people in figures; `version` is the same for the same people."""
    turns: int
    usage: tuple[RoleUsage, ...] = ()
    """What the last command used, answers from the journal included."""
    faults: dict[str, int] = Field(default_factory=dict)
    """What was refused or could not be had, by role and check; none of it counts against a model."""
    asked: dict[str, int] = Field(default_factory=dict)
    """By those roles, of how many things they were asked for; empty in older files."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Hashes of the instructions of each role, and of what the methods tell the tested models; empty with rules."""


def world_of(config: BenchmarkConfig) -> str:
    """Whose users and whose judge the numbers come from, in a few words."""
    roles = config.roles
    if roles is None or config.by_rules:
        return WORLD
    user = f"Users played by {_labels(roles.user)}" if roles.user else "Rule-based users"
    judge = f"judged by {_labels(roles.judge)}" if roles.judge else "judged by rules"
    return f"{user}, {judge}, not human beings"


def _labels(role: RoleConfig | None) -> str:
    return ", ".join(dict.fromkeys(label(one.model) for one in role.models)) if role else ""


def recorded(
    config: BenchmarkConfig,
    world: str,
    people: Sequence[Persona],
    tested: Sequence[Tested],
    rows: Mapping[str, Sequence[TurnRow]],
    account: Account,
) -> Evaluation:
    """What is written down beside the verdicts."""
    faults = Counter(
        f"{fault.role}: {fault.check}" for of_model in rows.values() for row in of_model for fault in row.faults
    )
    return Evaluation(
        world=world,
        cases=card(people),
        turns=config.turns,
        usage=account.rows(),
        faults=dict(sorted(faults.items())),
        asked=_asked(list(chain.from_iterable(rows.values())), faults),
        prompts=prompts_used(config) | {name: one for of in tested for name, one in method_hashes(of.method).items()},
    )


def _asked(rows: Sequence[TurnRow], faults: Mapping[str, int]) -> dict[str, int]:
    """Of how many things each role that has failed was asked for; a user's message that was refused is one of them."""
    played = [row for row in rows if row.failure is None]

    def times(what: str) -> int:
        return sum(getattr(row, what) is not None or what in row.missing for row in played)

    counts = {
        "user": len(played) + sum(count for name, count in faults.items() if name.startswith("user: ")),
        "checker": len(played),
        "inducer": len(played),
        "judge": len(played) + times("swapped"),
        "helpfulness": times("helpfulness"),
        "induction": times("induction"),
        "controls": sum(map(_of_controls, played)),
    }
    failed: Counter[str] = Counter()
    for name, count in faults.items():
        failed[name.partition(":")[0]] += count
    # Of a turn that could not be played it is not known what was asked for before.
    return {role: max(counts.get(role, 0), count) for role, count in sorted(failed.items())}


def _of_controls(row: TurnRow) -> int:
    """The replies of controls that a turn asked for, and the verdicts on those that are there."""
    verdicts = sum(1 + (one.swapped is not None or "swapped" in one.missing) for one in row.controls.values())
    return len(row.controls) + verdicts + sum(what.startswith("controls.") for what in row.missing)


def prompts_used(config: BenchmarkConfig) -> dict[str, str]:
    """Hashes of what the roles are told, and of what the tested models are told beside the conversation."""
    played = roles_of(config.roles, helpfulness=config.helpfulness)
    if not played:
        return {}
    files = prompts_of(played)
    told = {role: instructions(files[role], one.prompt) for role, one in played.items()}
    beside = [control.prompt for control in COUNTERFACTUALS.values()] if config.controlled_turns else []
    beside += ["induce"] if config.induced_turns else []
    freely = any(map(answers_freely, played.values()))
    return prompt_hashes({**told, **{name: packaged(name) for name in beside}}, free_text=freely)
