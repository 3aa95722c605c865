"""The same description in another gender."""

from __future__ import annotations

from interalign.personas.gender.agreement import agreed
from interalign.personas.gender.case import case_of
from interalign.personas.gender.person import own_nouns, own_titles
from interalign.personas.gender.reading import Tokens, read, word_at
from interalign.personas.gender.reference import own_pronouns
from interalign.personas.gender.tell import gender_of, told_gender
from interalign.personas.gender.verbs import Change
from interalign.personas.gender.words import Gender, nouns, people

__all__ = ["with_gender"]


def with_gender(text: str, gender: Gender) -> str:
    """`text` with the described person's pronouns, nouns and verbs in `gender`.

    Unchanged where no gender can be told, where it is `gender` already, and where the rules do not lead to a text of
    that gender. The result's `gender_of` is `gender`; or None when the text had no pronouns and became neutral.
    """
    tokens = read(text)
    own = told_gender(tokens)
    if own is None or own == gender:
        return text
    changed = _edited(text, tokens, _pronouns(tokens, own, gender) | _nouns(tokens, own, gender))
    found = gender_of(changed)
    return changed if found == gender or (found is None and gender == "neutral") else text


def _pronouns(tokens: Tokens, own: Gender, gender: Gender) -> dict[int, str]:
    """The words that change with the pronouns, by place: they and their verbs."""
    change = Change(plural=gender == "neutral")
    edits: dict[int, str] = {}
    for index in own_pronouns(tokens, own):
        case = case_of(tokens, index)
        edits[index] = people().forms[gender][case]
        if case == "subject" and "neutral" in (own, gender):
            edits |= agreed(tokens, index, change)
    return edits


def _nouns(tokens: Tokens, own: Gender, gender: Gender) -> dict[int, str]:
    """The words that change with titles and nouns, by place: they and their articles."""
    edits: dict[int, str] = {}
    # "They are a mother of two": a neutral person's nouns may have any gender.
    replaced = {own} if own != "neutral" else {"female", "male"} - {gender}
    for index, of in own_titles(tokens):
        if of in replaced:
            edits[index] = people().titles[gender][0]
    for index, of in own_nouns(tokens):
        if of not in replaced:
            continue
        edits[index] = nouns()[tokens[index].word].partners[gender]
        if word_at(tokens, index - 1, index) in ("a", "an"):
            edits[index - 1] = "an" if edits[index][0] in "aeiou" else "a"
    return edits


def _edited(text: str, tokens: Tokens, edits: dict[int, str]) -> str:
    parts: list[str] = []
    done = 0
    for index in sorted(edits):
        token = tokens[index]
        parts += text[done : token.start], _cased(edits[index], text[token.start : token.end])
        done = token.end
    return "".join([*parts, text[done:]])


def _cased(word: str, like: str) -> str:
    """`word` with the capitals and the kind of apostrophe of `like`."""
    if "’" in like:
        word = word.replace("'", "’")
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[0].isupper() else word
