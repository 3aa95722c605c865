"""How the growth of a pool is told in words, which its page and the terminal share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interalign.personas.description import PLURALS

if TYPE_CHECKING:
    from interalign.personas.pool import KindSummary

__all__ = ["counted", "judged", "no_room", "rejections", "span", "story"]

_FULL = "target reached"


def no_room(one: KindSummary) -> int:
    """Candidates that came when the pool was full. They were not rejected: nothing speaks against them."""
    return one.rejections.get(_FULL, 0)


def judged(one: KindSummary) -> int:
    """Candidates that were accepted or rejected."""
    return one.candidates - no_room(one)


def rejections(one: KindSummary) -> dict[str, int]:
    """Rejected candidates by reason."""
    return {reason: count for reason, count in one.rejections.items() if reason != _FULL}


def story(one: KindSummary) -> str:
    """How the pool grew and why it stopped, or that it did not need to; and what is to be said of its seeds."""
    plural = PLURALS[one.kind]
    if one.calls:
        told = (
            f"The {plural} grew from {counted(one.seeds, 'seed')} to {one.size:,} with "
            f"{counted(one.candidates, 'candidate')}, and stopped because {_stop(one)}."
        )
    else:
        told = f"The pool of {plural} was complete from the start, with {counted(one.size, 'description')}."
    if one.seeds_too_similar:
        told += f" Nearer to another seed than the threshold, but kept: {counted(one.seeds_too_similar, 'seed')}."
    return told


def _stop(one: KindSummary) -> str:
    match one.stop:
        case "target":
            return f"their target of {one.size:,} was reached"
        case "saturated":
            least = f"{100 * one.min_acceptance:g}\N{NO-BREAK SPACE}%"
            return f"fewer than {least} of the last {one.last_candidates:,} candidates were new"
        case "budget":
            tokens = one.prompt_tokens + one.completion_tokens
            return f"the budget was spent, with {counted(one.calls, 'call')} and {counted(tokens, 'token')}"
        case "unreadable":
            return "nothing in the last answers could be read"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 seed", "1,204 seeds"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def span(bounds: tuple[int, int]) -> str:
    """From the least to the most, or the one number that both are."""
    least, most = bounds
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
