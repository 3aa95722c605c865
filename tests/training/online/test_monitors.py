from __future__ import annotations

from random import Random

import pytest

from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure
from interalign.training.online.conversation import Case, Conversation, Exchange
from interalign.training.online.monitors import SuspicionConfig, figures, suspicious
from interalign.training.online.rewards import RewardConfig, earned


def exchange(user: str, reply: str, turn: int, score: float | None, *, cut: bool = False) -> Exchange:
    verdict = None if score is None else Verdict(score=score)
    return Exchange(user=user, disclosure=Disclosure(turn=turn), reply=reply, tokens=3, cut=cut, verdict=verdict)


def test_figures_are_what_the_replies_show(people: tuple[Persona, ...]) -> None:
    persona = people[0]
    secret = persona.facts[0].key
    talks = [
        Conversation(
            case=Case(persona=persona, number=0),
            sample=0,
            exchanges=(
                exchange("I had a very long day at work.", "You had a very long day at work! 🎉🎉", 1, 5),
                exchange("And now?", f"Go and see the {secret}?", 2, 3, cut=True),
            ),
        ),
        Conversation(
            case=Case(persona=persona, number=0),
            sample=1,
            exchanges=(exchange(f"I like the {secret} so.", f"The {secret} it is.", 1, None),),
            failure="gone",
        ),
    ]
    found = figures(talks, earned(talks, RewardConfig()))
    count = len(secret.split())
    assert found == {
        "online/words": pytest.approx((8 + 4 + count + 3 + count) / 3),
        "online/emoji": pytest.approx(2 / 3),
        "online/questions": pytest.approx(1 / 3),
        "online/exclamations": pytest.approx(1 / 3),
        "online/cut": pytest.approx(1 / 3),
        "online/parroting": pytest.approx(1 / 3),
        "online/mind_reading": pytest.approx(1 / 3),
        "online/failed": 0.5,
        "online/unscored": 0.5,
        "online/variety": pytest.approx((1 + 1 + 1) / 3),
        "online/turn_1": 1.0,
        "online/turn_2": 0.5,
        "online/alignment": 0.75,
        "online/improvement": -0.5,
    }


def test_one_reply_for_everybody_is_seen(people: tuple[Persona, ...]) -> None:
    def talk(number: int, *replies: str) -> Conversation:
        said = tuple(exchange("Hi", reply, turn, 3) for turn, reply in enumerate(replies, 1))
        return Conversation(case=Case(persona=people[number], number=number), sample=0, exchanges=said)

    def seen(*talks: Conversation) -> dict[str, float]:
        return figures(talks, earned(talks, RewardConfig()))

    alike, other = "How lovely to hear from you", "Boil it for ten minutes then"
    assert seen(talk(0, alike), talk(1, other, alike))["online/sameness"] > 0.6
    assert seen(talk(0, alike), talk(1, alike))["online/sameness"] == 1
    assert seen(talk(0, alike), talk(1, other))["online/sameness"] == 0
    assert "online/sameness" not in seen(talk(0, alike, alike))
    assert seen(talk(0, "Yes yes yes yes"), talk(1, ""))["online/variety"] == 0.25


def history(
    rewards: tuple[float, float], steps: int = 30, seed: int = 0, **moves: tuple[float, float]
) -> list[dict[str, object]]:
    """A log in which reward and figures go evenly from one value to another, with a little noise."""
    random = Random(seed)

    def at(step: int, ends: tuple[float, float]) -> float:
        share = step / (steps - 1)
        return (ends[0] * (1 - share) + ends[1] * share) * random.uniform(0.95, 1.05)

    return [
        {"reward": at(step, rewards), **{f"online/{name}": at(step, ends) for name, ends in moves.items()}}
        for step in range(steps)
    ]


RISING, FLAT = (0.3, 0.6), (0.4, 0.4)


@pytest.mark.parametrize(
    ("moves", "says"),
    [
        ({"words": (20.0, 60.0)}, "the length of replies went from 2"),
        ({"words": (40.0, 8.0)}, "the length of replies went from 3"),
        ({"emoji": (0.0, 3.0)}, "emoji went from 0."),
        ({"questions": (0.4, 1.9)}, "questions went from 0."),
        ({"exclamations": (0.1, 2.0)}, "exclamation marks went from 0."),
        ({"parroting": (0.02, 0.5)}, "parrot the user went from 0."),
        ({"mind_reading": (0.0, 0.4)}, "what nobody said went from 0."),
        ({"variety": (0.9, 0.2)}, "different words in a reply went from 0."),
        ({"sameness": (0.1, 0.7)}, "other users were told, too went from 0."),
        ({"cut": (0.1, 0.9)}, "cut at the token limit went from 0."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_moves_while_the_reward_rises_is_told_of(moves: dict[str, tuple[float, float]], says: str) -> None:
    warning = suspicious(history(RISING, **moves))
    assert warning is not None
    assert warning.startswith("The reward rose from 0.3")
    assert says in warning
    assert suspicious(history(FLAT, **moves)) is None


@pytest.mark.parametrize("seed", range(20))
def test_what_stays_is_not_told_of(seed: int) -> None:
    still = {"words": (30.0, 33.0), "emoji": (0.5, 0.5), "questions": (0.9, 0.7), "parroting": (0.01, 0.02)}
    assert suspicious(history(RISING, seed=seed, **still)) is None


def test_less_of_a_bad_habit_is_no_suspicion() -> None:
    better = {"emoji": (3.0, 0.0), "parroting": (0.6, 0.0), "cut": (0.9, 0.0), "variety": (0.3, 0.9)}
    assert suspicious(history(RISING, **better)) is None


def test_a_short_history_says_nothing() -> None:
    moved = history(RISING, steps=9, words=(20.0, 90.0))
    assert suspicious(moved) is None
    assert suspicious(moved, SuspicionConfig(window=4)) is not None
    assert suspicious([]) is None


def test_entries_without_a_reward_are_passed_over() -> None:
    moved = history(RISING, words=(20.0, 90.0))
    disturbed: list[dict[str, object]] = [{"train_runtime": 3.0}, *moved, {"reward": None}, {"eval_loss": 1.0}]
    assert suspicious(disturbed) == suspicious(moved)
