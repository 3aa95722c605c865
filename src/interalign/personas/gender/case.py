"""The two forms that are ambiguous: "her" is "him" or "his", and "his" is "her" or "hers"."""

from __future__ import annotations

from interalign.personas.gender.person import is_subject
from interalign.personas.gender.reading import Tokens, word_at
from interalign.personas.gender.verbs import base, is_act
from interalign.personas.gender.words import Case, grammar, is_adverb, pronouns, words_around_her

__all__ = ["case_of"]


def case_of(tokens: Tokens, index: int) -> Case:
    """Which form of its pronoun stands at `index`."""
    word = tokens[index].word
    if word == "her":
        return "dependent" if _possesses(tokens, index) else "object"
    if word == "his":
        return "independent" if _stands_alone(tokens, index) else "dependent"
    return pronouns()[word].case


def _stands_alone(tokens: Tokens, index: int) -> bool:
    """Whether "his" is "hers": "the fault is his"."""
    following, further = _next_word(tokens, index), _next_word(tokens, index + 1)
    if word_at(tokens, index - 1, index) == "of" and _is_predicate(following, further):
        return True
    return _closes(following) and following != "every"


def _is_predicate(word: str, further: str) -> bool:
    """Whether what follows "a friend of his" is a verb: a past form without a thing, or a third person."""
    return is_act(word) or (word.endswith("ed") and _closes(further))


def _closes(word: str) -> bool:
    """Whether a phrase has ended where `word` is the next."""
    return not word or word in grammar().function


def _next_word(tokens: Tokens, index: int) -> str:
    """The word that follows, through an opening quotation mark; "" where the sentence or a sign comes first."""
    following = word_at(tokens, index + 1, index)
    return following if following[:1].isalnum() or following == '"' else ""


def _possesses(tokens: Tokens, index: int) -> bool:
    """Whether "her" is followed by what she has ("her cat") and is not itself what is seen or given ("sees her")."""
    known = words_around_her()
    following, further = _next_word(tokens, index), _next_word(tokens, index + 1)
    once = following == "one" and further in ("day", "morning", "evening", "night")
    if _closes(following) or once:
        return False
    if following in ("own", '"'):
        return True
    last = word_at(tokens, index - 1, index)
    verb, closed = base(last), _closes(further)
    if following in known.places:
        return not (closed and verb in known.moves)
    if following in known.ends or is_adverb(following):
        return not closed
    # "She tells her things" would be "herself", so what she tells is hers.
    if verb in known.gives and following in known.given:
        return _is_subject_of(tokens, index - 1)
    return not (_is_made(verb, following, closed) or _acts(last, following))


def _is_made(verb: str, following: str, closed: bool) -> bool:
    """What somebody makes her: "makes her laugh", "hears her singing", "leaves her unruffled"."""
    known = words_around_her()
    if verb in known.causes and following in known.done:
        return True
    if verb in known.perceives and following.endswith("ing"):
        return True
    if verb not in known.causes | known.perceives | known.thinks or not closed:
        return False
    participle = following.endswith("ed") and following not in ("bed", "seed", "feed", "need", "breed", "shed")
    return participle or following in known.done or following.endswith(("ous", "ful", "able", "ible", "less"))


def _acts(last: str, following: str) -> bool:
    """Whether the next word is a verb after a phrase that ends with her: "an answer out of her takes time"."""
    if last in ("around", "near", "beside") and following in words_around_her().done:
        return True
    preposition = last in grammar().function and last not in ("and", "or", "but", "like")
    return preposition and is_act(following)


def _is_subject_of(tokens: Tokens, verb: int) -> bool:
    """Whether "she" stands right before the verb, adverbs aside."""
    place = verb - 1
    while is_adverb(word_at(tokens, place, verb)):
        place -= 1
    return is_subject(word_at(tokens, place, verb))
