"""Which nouns and titles are the described person's own: "she is a single mother", "A quiet man", "Mr Li"."""

from __future__ import annotations

from collections.abc import Iterator

from interalign.personas.gender.reading import Tokens, before, word_at
from interalign.personas.gender.verbs import base, is_third
from interalign.personas.gender.words import Gender, grammar, is_adverb, nouns, people, pronouns, titles, verbs

__all__ = ["is_subject", "own_nouns", "own_titles"]

_APPOSED = 8


def own_nouns(tokens: Tokens) -> Iterator[tuple[int, Gender]]:
    """The places and genders of nouns that are said of the described person: "A quiet man who", "as a father"."""
    described = False
    for index, token in enumerate(tokens):
        word = token.word
        if word in grammar().be and _has_own_subject(tokens, index):
            described = True
        elif token.first or _ends_complement(tokens, index):
            described = False
        noun = nouns().get(word)
        if noun is None or (word in ("male", "female") and not _stands_alone(tokens, index)):
            continue
        if described or _as_noun(tokens, index) or _opens(tokens, index):
            yield index, noun.gender


def own_titles(tokens: Tokens) -> Iterator[tuple[int, Gender]]:
    """Titles such as "Mr" where the text opens with one, and again wherever the same name follows."""
    if not tokens or tokens[0].word not in titles():
        return
    opening = _surname(tokens, 0)
    for index, token in enumerate(tokens):
        if token.word in titles() and _surname(tokens, index) == opening:
            yield index, titles()[token.word]


def is_subject(word: str) -> bool:
    """Whether `word` is "she", "he" or "they"."""
    return word in pronouns() and pronouns()[word].case == "subject"


def _surname(tokens: Tokens, index: int) -> str:
    after = word_at(tokens, index + 1, index)
    return word_at(tokens, index + 2, index) if after == "." else after


def _ends_complement(tokens: Tokens, index: int) -> bool:
    word = tokens[index].word
    if word == "of":
        return word_at(tokens, index - 1, index) not in ("kind", "sort", "type")
    acts = is_third(word) and base(word) in verbs().known
    return acts or word in grammar().ends_complement or word in people().possessives


def _has_own_subject(tokens: Tokens, index: int) -> bool:
    """Whether what comes before a form of "be" is the person: a pronoun, or a name at the beginning."""
    place = index - 1
    word = word_at(tokens, place, index)
    while is_adverb(word) or word in ("has", "have", "had", "'s", "'ve"):
        place -= 1
        word = word_at(tokens, place, index)
    if word in pronouns():
        return is_subject(word)
    if tokens[index].word.startswith("'"):
        return False
    for back in range(place, max(-1, place - 3), -1):
        word = word_at(tokens, back, index)
        if word == "." and word_at(tokens, back - 1, index) in titles():
            continue
        if not word[:1].isalpha() or word in nouns() or word in grammar().function or word in people().possessives:
            return False
        if tokens[back].first:
            return True
    return False


def _as_noun(tokens: Tokens, index: int) -> bool:
    """Whether it is "as a (working) mother"."""
    for back in before(tokens, index, 4):
        if tokens[back].word in ("a", "an", "the"):
            return word_at(tokens, back - 1, index) == "as"
        if tokens[back].word in grammar().function:
            return False
    return False


def _opens(tokens: Tokens, index: int) -> bool:
    """Whether the noun opens the text ("A quiet woman"), or a later sentence about the person ("A father, he")."""
    start = index
    for back in before(tokens, index, _APPOSED):
        word = tokens[back].word
        if word not in ("a", "an", "the", "of") and (
            word in grammar().function or word in people().possessives or word in pronouns()
        ):
            return False
        if not (word[0].isalnum() or word in (",", "'s")):
            break
        start = back
    if not tokens[start].first:
        return False
    if tokens[start].sentence == 0:
        return True
    after = range(index + 1, index + 1 + _APPOSED)
    comma = next((place for place in after if word_at(tokens, place, index) in (",", "")), index)
    return word_at(tokens, comma, index) == "," and is_subject(word_at(tokens, comma + 1, index))


def _stands_alone(tokens: Tokens, index: int) -> bool:
    following = word_at(tokens, index + 1, index)
    return not following[:1].isalnum() or following in grammar().function or following.endswith("ing")
