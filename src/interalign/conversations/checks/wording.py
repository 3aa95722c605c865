"""Faults that one message shows by itself: words that only an assistant, a thinking model or a prompt would say."""

from __future__ import annotations

import re

from interalign.conversations.checks.disclosure import content_words
from interalign.conversations.checks.phrases import expression, names_in, phrases, sentences
from interalign.personas.persona import Persona
from interalign.personas.speech import addresses_a_model
from interalign.roles.measure import ngram_overlap, words

__all__ = ["flips_role", "leaks_instructions", "leaks_reasoning", "speaks_as_assistant"]

_COPIED_WORDS = 12
_ECHOED_WORDS, _ECHOED_SHARE = 8, 0.7
_ADVICE_ITEMS = 3

_LABEL = re.compile(
    r"(?:^|\n)\W{0,3}(user|human|me|you|customer|persona|assistant|ai|chat ?bot|bot)\W{0,3}:", re.IGNORECASE
)
_ITEM = re.compile(r"(?:^[ \t]{0,9}(?:[-*•]|\d+[.)])\s+|\bstep \d+: )\S", re.MULTILINE | re.IGNORECASE)
_ADVICE = re.compile(
    r"\byou (?:could|can|might|may|should) (?:also |want to |always )?"
    r"(?:try|start|consider|use|add|take|look|ask|make|buy|prefer)\b|"
    r"(?:^|[.!?] |\n|\b(?:and|also|then),? )(?:just )?"
    r"(?:try \w+ing|remember|make sure|be sure|consider|don't forget|avoid)\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:i|me|my|mine|myself|we|our|us)\b", re.IGNORECASE)
_SECOND_PERSON = re.compile(r"\b(?:you|your|yourself)\b", re.IGNORECASE)
_YOURS = re.compile(r"\byour ((?:[^\W\d_]|['-])+(?: (?:[^\W\d_]|['-])+)?)", re.IGNORECASE)
_THIRD_PERSON = re.compile(r"\b(?:she|he|they|her|his|their|him|them)\b", re.IGNORECASE)
_OF_A_PROMPT = re.compile(r"[<\[#]|.*\b(?:system (?:prompt|message)|break character)\b", re.IGNORECASE)


def flips_role(said: str, persona: Persona, replies: tuple[str, ...]) -> bool:
    """Whether the message answers as the assistant, gives advice, echoes a reply or writes both sides."""
    labels = {label.lower() for label in _LABEL.findall(said)}
    return (
        bool(expression(phrases().role_flip).search(said))
        or len(labels) > 1
        or _advises(said)
        or _calls_it_yours(said, persona)
        or _echoes(said, replies)
    )


def _advises(said: str) -> bool:
    first, second = len(_FIRST_PERSON.findall(said)), len(_SECOND_PERSON.findall(said))
    in_a_list = len(_ITEM.findall(said)) >= _ADVICE_ITEMS and "?" not in said
    # A user gives advice too, on how to answer; but then asks something that is not about "you".
    asks = any("?" in part and not _SECOND_PERSON.search(part) for part in sentences(said))
    in_prose = first == 0 and len(_ADVICE.findall(said)) > 1 and not asks
    return (in_a_list and (first == 0 or second > first)) or in_prose


def _calls_it_yours(said: str, persona: Persona) -> bool:
    # "Your goat may be cold": whoever has a goat says "my goat".
    if _FIRST_PERSON.search(said) or "?" in said:
        return False
    own = content_words(persona.profile)
    return any(content_words(match) & own for match in _YOURS.findall(said))


def _echoes(said: str, replies: tuple[str, ...]) -> bool:
    return len(words(said)) >= _ECHOED_WORDS and any(
        ngram_overlap(said, [reply], 3) >= _ECHOED_SHARE for reply in replies
    )


def leaks_reasoning(said: str, persona: Persona) -> bool:
    """Whether the message holds thoughts about what to say, stage directions or the frame of a draft."""
    return bool(expression(phrases().leaked_reasoning, _names(persona)).search(said))


def leaks_instructions(said: str, persona: Persona) -> bool:
    """Whether the message repeats words of the prompt, its tags, or the persona's text as it stands there."""
    told = f"{persona.profile}\n{persona.personality}"
    found = (match.group() for match in expression(phrases().leaked_instructions).finditer(said))
    return (
        any(not re.search(rf"(?<!\w){re.escape(one)}(?!\w)", told, re.IGNORECASE) for one in found)
        or any(_OF_A_PROMPT.match(addresses_a_model(part) or "") for part in sentences(said))
        or any(_copies(part, told, _names(persona)) for part in sentences(said))
    )


def _copies(sentence: str, told: str, names: frozenset[str]) -> bool:
    # Somebody may well use the words of the profile for their own life: a copy speaks of "her" and never of "me".
    if _FIRST_PERSON.search(sentence):
        return False
    of_another = _THIRD_PERSON.search(sentence) or any(name in sentence for name in names)
    return bool(of_another) and ngram_overlap(sentence, [told], _COPIED_WORDS) > 0


def speaks_as_assistant(said: str) -> bool:
    """Whether the message holds the polite phrases of a service."""
    return bool(expression(phrases().assistant_speak).search(said))


def _names(persona: Persona) -> frozenset[str]:
    return names_in(f"{persona.profile} {persona.personality}")
