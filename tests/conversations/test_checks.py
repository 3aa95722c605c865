from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.simulator_checks import (
    REQUESTS,
    SMALL_TALK,
    Case,
    chat_of,
    good,
    measured,
    planted,
    rule_based,
    seed_people,
)
from interalign.conversations.checks import CHECKS, CheckName, ChecksConfig, faults
from interalign.messages import Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona

ROOT = Path(__file__).parents[2]
CARER, CLERK, COURIER = seed_people()[0], seed_people()[1], seed_people()[2]
COMPOSED = compose_personas(WorldConfig(train=3, heldout=2), seed=4)


def found(persona: Persona, said: str, before: Sequence[str] = SMALL_TALK) -> tuple[CheckName, ...]:
    return faults(persona, chat_of(before), said)


def described(cases: Sequence[Case]) -> list[tuple[CheckName | None, str]]:
    return [(case.check, case.said) for case in cases]


def test_planted_faults_are_found_on_many_personas() -> None:
    cases = list(planted(seed=3))
    missed = [case for case in cases if case.check not in faults(case.persona, case.chat, case.said)]
    assert {case.check for case in cases} == set(CHECKS)
    for check in CHECKS:
        of_check = [case for case in cases if case.check == check]
        assert len({case.persona.id for case in of_check}) >= 10, check
        assert sum(case.check == check for case in missed) <= 0.05 * len(of_check), described(missed)


def test_messages_of_rule_based_users_stand() -> None:
    cases = list(rule_based(users=12, turns=10, seed=8))
    refused = [case for case in cases if faults(case.persona, case.chat, case.said)]
    assert len(cases) == 120
    assert len(refused) <= 1, described(refused)


@pytest.mark.parametrize("case", list(good()), ids=lambda case: case.said[:40])
def test_good_messages_that_come_near_to_a_fault_stand(case: Case) -> None:
    assert faults(case.persona, case.chat, case.said) == ()


@pytest.mark.parametrize(
    ("persona", "said"),
    [
        (CARER, "I am 57 and get up at four. Any tips?"),
        (CARER, "When I was 30 I had no goat. Are they always this loud?"),
        (CARER, "I'm looking after a 70-year-old who cannot sit. Which chair?"),
        (CLERK, "I'm 23 minutes early every night. Why does nobody notice?"),
        (CLERK, "I live with three men, none of whom cooks. What is cheap?"),
        (COURIER, "I'm a man of letters, so to speak. Which shoes?"),
        (seed_people()[8], "Two of my four children came along. What now?"),
        (seed_people()[11], "My wife works days. When do we talk?"),
    ],
)
def test_what_only_sounds_like_a_contradiction_stands(persona: Persona, said: str) -> None:
    assert "contradiction" not in found(persona, said)


def test_somebody_may_speak_like_the_profile_of_their_own_life() -> None:
    said = "I am the unpaid carer of a brother who has not spoken since his stroke. What can we play?"
    assert "leaked instructions" not in found(seed_people()[10], said)


def test_words_of_the_persona_are_no_words_of_the_prompt() -> None:
    player = Persona(profile="He is 40 and runs a role-playing shop in Leeds.", personality="He is calm.")
    said = "The role-playing shop is quiet today. What would you put in the window?"
    assert "leaked instructions" in found(CARER, said)
    assert "leaked instructions" not in found(player, said)


def test_a_first_message_may_greet_and_a_later_one_may_not() -> None:
    said = "Hello! My name is Nomsa, and I have a goat. Do you know about goats?"
    assert found(CARER, said, ()) == ()
    assert found(CARER, said) == ("restart",)


def test_a_short_answer_may_come_twice() -> None:
    assert "restart" not in found(CARER, "Yes, please.", ("My goat is ill.", "Yes, please."))
    told = "My goat is ill and does not eat any more."
    assert "restart" in found(CARER, told, (told, "Yes, please."))


def test_an_opener_may_be_used_twice() -> None:
    talks = [f"That sounds good, {rest}" for rest in ("my goat agrees.", "my sister does not.", "and my mother?")]
    assert "repeated opener" not in found(CARER, talks[1], talks[:1])
    assert "repeated opener" in found(CARER, talks[2], talks[:2])


def test_the_echo_of_a_reply_is_the_assistants_voice() -> None:
    reply = "Wash the tripe twice, and boil it slowly with an onion and some salt."
    chat = (Message(role="user", content="How do I cook tripe?"), Message(role="assistant", content=reply))
    assert "role flip" in faults(CARER, chat, reply)
    assert "role flip" not in faults(CARER, chat, "Boil it slowly, you say. With the lid on?")


def test_the_share_that_a_message_may_give_away_is_set() -> None:
    facts = COMPOSED[0].facts
    said = " ".join(f"I like {fact.term}." for fact in facts[:5])
    for most, expected in ((0.2, True), (1.0, False)):
        got = faults(COMPOSED[0], (), said, ChecksConfig(most_disclosed=most))
        assert ("over-disclosure" in got) is expected


def test_silence_counts_from_its_length_and_while_something_is_left_to_say() -> None:
    silent = REQUESTS[:3]
    assert "no disclosure" not in found(CARER, REQUESTS[3], silent[:2])
    assert "no disclosure" in found(CARER, REQUESTS[3], silent)
    assert "no disclosure" not in faults(CARER, chat_of(silent), REQUESTS[3], ChecksConfig(silent_turns=5))
    everything = " ".join(f"I told you of {fact.term}." for fact in COMPOSED[0].facts)
    assert "no disclosure" in found(COMPOSED[0], REQUESTS[3], silent)
    assert "no disclosure" not in found(COMPOSED[0], REQUESTS[3], (everything, *silent))


def test_checks_can_be_off() -> None:
    said = "Hello! As an AI, I can help you with that."
    on = found(CARER, said)
    assert on == ("role flip", "restart")
    for name in on:
        others = tuple(check for check in CHECKS if check != name)
        assert name not in faults(CARER, chat_of(SMALL_TALK), said, ChecksConfig(checks=others))
    assert faults(CARER, chat_of(SMALL_TALK), said, ChecksConfig(checks=())) == ()


def test_typographic_quotes_are_quotes() -> None:
    assert "assistant-speak" in found(CARER, "I’m happy to help you with that!")


@pytest.mark.parametrize("values", [{"checks": ("nothing",)}, {"retries": -1}, {"silent_turns": 0}])
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ChecksConfig.model_validate(values)


TEXTS = st.text(max_size=300) | st.text(alphabet="*([<>{}#-:.!?\n 1aI'’mAy", max_size=300)


@settings(max_examples=150, deadline=None)
@given(
    said=TEXTS,
    before=st.lists(TEXTS, max_size=5),
    profile=TEXTS.filter(bool),
    composed=st.sampled_from([None, *COMPOSED]),
)
def test_any_text_is_taken(said: str, before: list[str], profile: str, composed: Persona | None) -> None:
    persona = composed or Persona(profile=profile, personality=profile)
    got = faults(persona, chat_of(before), said)
    assert list(got) == [check for check in CHECKS if check in got]
    assert got == faults(persona, chat_of(before), said)


@pytest.mark.parametrize(
    "piece", ["I am a ", "*sighs ", "here is a ", "<persona ", "1. \n", "my two ", "#", "\n", "a" * 50, " "]
)
def test_a_long_message_is_checked_in_reasonable_time(piece: str) -> None:
    # An expression that goes over the text again from every place would not come to an end here.
    assert isinstance(found(CARER, piece * (40_000 // len(piece))), tuple)


def test_the_benchmark_counts_what_it_planted() -> None:
    result = measured(users=2, turns=3, seed=1)
    assert result["messages_rule_based"] == 6
    assert list(result["checks"]) == list(CHECKS)
    for row in result["checks"].values():
        assert 0.9 * row["planted"] <= row["found"] <= row["planted"]
    lost = sum(row["planted"] + row["unseen"] - row["found"] - row["unseen_found"] for row in result["checks"].values())
    assert len(result["missed"]) == lost


@pytest.mark.slow
def test_the_benchmark_shows_a_table_and_keeps_its_numbers(tmp_path: Path) -> None:
    out = tmp_path / "checks.json"
    call = [sys.executable, ROOT / "benchmarks" / "simulator_checks.py", "--users", "2", "--turns", "2", "--json", out]
    shown = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert "over-disclosure" in shown
    assert json.loads(out.read_text(encoding="utf-8"))["messages_rule_based"] == 4
