"""Personas of the rule-based world: composed from curated vocabularies, with preferences that can be measured.

What makes them worth inferring: a person's own way of writing (`manner`) and the way that person wants to be answered
(`preferences`) agree on most dimensions and differ on some, so that copying the user's style is not enough; and
held-out personas are made of words that no training persona has.
"""

from __future__ import annotations

from random import Random
from typing import Annotated

from pydantic import Field

from interalign.messages import Value
from interalign.personas.persona import Fact, Persona, Preference, Split, Trait
from interalign.personas.style import DIMENSIONS, SHOWN_IN_WRITING, Dimension, StyleValue
from interalign.personas.vocabulary import SLOTS, TraitEntry, for_split, names, slot, traits
from interalign.run import derive_seed

__all__ = ["WorldConfig", "compose_personas"]


class WorldConfig(Value):
    """How many personas the rule-based world has, and how hard they are to know."""

    train: Annotated[int, Field(ge=1)] = 40
    """Training personas."""
    heldout: Annotated[int, Field(ge=2)] = 20
    """Held-out personas for the benchmark (at least 2: the personalization gap swaps them)."""
    contrary: Annotated[int, Field(ge=0, le=len(SHOWN_IN_WRITING))] = 2
    """On how many of the six dimensions that a user's writing shows the person wants the opposite in replies."""
    salient: Annotated[int, Field(ge=0, le=len(DIMENSIONS))] = 3
    """How many dimensions matter twice as much to the person as the others."""


_PRONOUNS = {"female": ("she", "her"), "male": ("he", "his"), "neutral": ("they", "their")}
_VOICES = {
    "emoji": ("cheerful", "calm", "animals", "food", "nature", "work"),
    "casing": ("sentence", "sentence", "lower"),
    "pause": ("comma", "comma", "ellipsis", "dash"),
}

# Read by language models in the user's or the judge's role; never shown to the policy.
_PREFERENCE_TEXT: dict[tuple[Dimension, StyleValue], str] = {
    ("length", "brief"): "wants answers of a sentence or so",
    ("length", "medium"): "wants answers of two or three sentences",
    ("length", "long"): "wants answers that go into detail",
    ("emoji", "none"): "finds emoji in answers distracting",
    ("emoji", "some"): "enjoys an emoji in an answer",
    ("exclamation", "none"): "finds exclamation marks loud",
    ("exclamation", "some"): "warms to answers with audible enthusiasm",
    ("question", "none"): "does not want to be questioned in return",
    ("question", "some"): "likes to be asked something in return",
    ("formality", "casual"): "feels at ease with casual language",
    ("formality", "formal"): "expects correct, formal language",
    ("directness", "direct"): "wants to be told plainly what to do",
    ("directness", "gentle"): "wants suggestions, not orders",
    ("layout", "prose"): "prefers flowing text to lists",
    ("layout", "list"): "prefers steps in a list to flowing text",
    ("warmth", "plain"): "wants answers to start with the matter itself",
    ("warmth", "warm"): "wants a kind word before the matter itself",
}


def compose_personas(config: WorldConfig, seed: int) -> tuple[Persona, ...]:
    """The personas of one world: `config.train` training personas, then `config.heldout` held-out ones.

    Each is drawn from its own seed, so the first n personas are the same whatever the total.
    """
    train = (_compose(config, "train", index, seed) for index in range(config.train))
    heldout = (_compose(config, "heldout", index, seed) for index in range(config.heldout))
    return (*train, *heldout)


def _compose(config: WorldConfig, split: Split, index: int, seed: int) -> Persona:
    random = Random(derive_seed(seed, "persona", split, index))
    gender = random.choice(("female", "female", "male", "male", "neutral"))
    name = random.choice(for_split(names(gender), split))
    subject, possessive = _PRONOUNS[gender]
    facts = _draw_facts(random, split)
    chosen_traits = _draw_traits(random)
    manner = {dimension: random.choice(DIMENSIONS[dimension]) for dimension in SHOWN_IN_WRITING}
    preferences = _draw_preferences(random, config, manner)
    return Persona(
        split=split,
        profile=_profile_text(random, name, possessive, facts),
        personality=_personality_text(random, name, subject, possessive, chosen_traits, preferences),
        facts=facts,
        traits=tuple(entry.trait for entry in chosen_traits),
        manner=manner,
        preferences=preferences,
        voice={
            "name": name,
            "tone": "blunt" if _is_blunt([entry.trait for entry in chosen_traits]) else "polite",
            **{habit: random.choice(choices) for habit, choices in _VOICES.items()},
        },
    )


def _draw_facts(random: Random, split: Split) -> tuple[Fact, ...]:
    slots = random.sample(SLOTS, random.randint(8, 10))
    return tuple(random.choice(slot(name).facts(split)) for name in slots)


def _draw_traits(random: Random) -> tuple[TraitEntry, ...]:
    wanted = random.randint(8, 10)
    chosen: list[TraitEntry] = []
    for entry in random.sample(traits(), len(traits())):
        clash = any(entry.name in other.opposites or other.name in entry.opposites for other in chosen)
        if not clash:
            chosen.append(entry)
        if len(chosen) == wanted:
            break
    return tuple(chosen)


def _is_blunt(of_person: list[Trait]) -> bool:
    difficult = sum(trait.difficult for trait in of_person)
    return difficult * 2 > len(of_person)


def _draw_preferences(
    random: Random, config: WorldConfig, manner: dict[Dimension, StyleValue]
) -> dict[Dimension, Preference]:
    contrary = set(random.sample(SHOWN_IN_WRITING, config.contrary))
    salient = set(random.sample(list(DIMENSIONS), config.salient))
    preferences: dict[Dimension, Preference] = {}
    for dimension, values in DIMENSIONS.items():
        if dimension not in manner:
            value = random.choice(values)
        elif dimension in contrary:
            value = random.choice([other for other in values if other != manner[dimension]])
        else:
            value = manner[dimension]
        preferences[dimension] = Preference(value=value, weight=2.0 if dimension in salient else 1.0)
    return preferences


def _profile_text(random: Random, name: str, possessive: str, facts: tuple[Fact, ...]) -> str:
    sentences = [f"{name} is {random.randint(18, 85)} years old"]
    for fact in facts:
        template = random.choice(slot(fact.slot).profile)
        sentences.append(template.format(name=name, their=possessive, term=fact.term))
    return ". ".join(_capitalised(sentence) for sentence in sentences) + "."


def _personality_text(
    random: Random,
    name: str,
    subject: str,
    possessive: str,
    chosen: tuple[TraitEntry, ...],
    preferences: dict[Dimension, Preference],
) -> str:
    sentences = [random.choice(entry.personality).format(name=name, their=possessive) for entry in chosen]
    wishes = [_PREFERENCE_TEXT[dimension, preference.value] for dimension, preference in preferences.items()]
    half = len(wishes) // 2
    sentences += [f"In a chat, {name} {_listed(wishes[:half])}", f"{name} also {_listed(wishes[half:])}"]
    return ". ".join(_capitalised(sentence) for sentence in sentences) + "."


def _listed(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
