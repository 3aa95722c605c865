"""The verbs joined to another one by "and", "or", "but" or a comma, which share its subject."""

from __future__ import annotations

from dataclasses import dataclass

from interalign.personas.gender.reading import Tokens, past_adverbs, word_at
from interalign.personas.gender.verbs import Change, base, is_third
from interalign.personas.gender.words import grammar, is_adverb, people, pronouns, verbs

__all__ = ["joined"]


def joined(tokens: Tokens, at: int, verb: str, change: Change) -> dict[int, str]:
    """The changes of the verbs joined to the one at `at`, whose base is `verb`, up to the next subject."""
    edits: dict[int, str] = {}
    walk = _Walk(tokens, change, at, verb)
    for index in range(at, len(tokens)):
        if tokens[index].sentence != tokens[at].sentence or (index > at and walk.stops(index)):
            break
        walk.passes(index)
        if tokens[index].word not in grammar().joints:
            continue
        candidate = past_adverbs(tokens, index + 1, index)
        word = word_at(tokens, candidate, index)
        changed = change.of(word)
        if changed is not None and walk.continues(index, candidate):
            edits[candidate] = changed
            walk = _Walk(tokens, change, candidate, change.base(word), series=tokens[index].word == ",")
    return edits


@dataclass
class _Walk:
    """What has been passed since the last verb of a subject, which decides whether the next joined word is its verb."""

    tokens: Tokens
    change: Change
    at: int
    verb: str
    infinitive: bool = False
    listed: bool = False
    relative: bool = False
    series: bool = False
    """Verbs are being listed: "bakes bread, keeps bees that sting and ..."."""

    def stops(self, index: int) -> bool:
        """Whether another subject begins here."""
        word = self.tokens[index].word
        if word in (";", ":", "she", "he", "they"):
            return True
        return word in people().subjects and self._at(index - 1) in (",", "and", "or", "but", "so", "yet")

    def passes(self, index: int) -> None:
        """Take note of what makes the verbs that follow somebody else's, or infinitives."""
        word = self.tokens[index].word
        refuses = word in ("don't", "doesn't", "didn't") or (word == "not" and self.verb == "do")
        if word in verbs().modals or refuses or (word == "to" and self._infinite(index)):
            self.infinitive = True
        if word in ("who", "which", "that"):
            after = self._at(past_adverbs(self.tokens, index + 1, index))
            # "They ask who ..." is no relative clause.
            asked = base(self._at(index - 1)) in verbs().known
            known = self.change.auxiliary(after) is not None or self.change.base(after) in verbs().known
            self.relative = not asked and known and self.change.of(after) is not None

    def continues(self, joint: int, candidate: int) -> bool:
        """Whether the word at `candidate`, after the "and" or comma at `joint`, is a verb of the same subject."""
        sign, before, word = self._at(joint), self._at(joint - 1), self._at(candidate)
        if not self._is_verb(joint, candidate):
            return False
        if self.relative and not self.series and (sign == "," or before != ","):
            return False
        own = sign in ("but", "yet") or word in verbs().finite or candidate > joint + 1
        if self.change.plural or not self.infinitive or own:
            return True
        if sign == ",":
            self.listed = True
            return False
        # "They find something in it to be glad about and say so."
        return (before == "," and not self.listed) or before in ("about", "with", "for", "at", "on")

    def _at(self, index: int) -> str:
        return word_at(self.tokens, index, self.at)

    def _infinite(self, to: int) -> bool:
        after = self._at(to + 1)
        return after not in pronouns() and (after in verbs().known or after in ("be", "have", "do") or is_adverb(after))

    def _is_verb(self, joint: int, candidate: int) -> bool:
        word, after = self._at(candidate), self._at(candidate + 1)
        verb, sure = self.change.base(word), after in verbs().sure_objects
        if self.change.auxiliary(word) is not None:
            return True
        # "Listens and snores": right after a verb another one follows, whether it is known or not.
        if joint - 1 == self.at and (self.change.plural or self._at(joint) != ","):
            return True
        if verb not in verbs().known:
            return sure and (self.change.plural or candidate > joint + 1)
        if verb in verbs().adjectives and not self.change.plural:
            return sure or after == "up"
        return sure or verb in verbs().plain or self._is_no_noun(joint, candidate)

    def _is_no_noun(self, joint: int, candidate: int) -> bool:
        """Whether the neighbours of a word such as "walks" make it a verb."""
        verb, after = base(self._at(candidate)), self._at(candidate + 1)
        if self.change.plural and verb in verbs().no_plurals:
            return True
        if after == "of":
            return verb == "dream"
        if candidate > joint + 1 or is_adverb(after) or after.endswith("ing"):
            return True
        if after == "to" and self._infinite(candidate + 1):
            return True
        comma = self._at(joint - 1) == ","
        last = joint - 2 if comma else joint - 1
        things = self._are_things(last) or (not comma and self._takes_things())
        if after[:1].isalnum() and after not in grammar().function:
            # Two nouns in a row are rarer than a verb and its object: "walks dogs", but "dance classes".
            return self.change.plural or not things
        closes = not after[:1].isalnum() or after in grammar().joints
        return not things and (not closes or last == self.at or is_adverb(self._at(last)))

    def _are_things(self, last: int) -> bool:
        """Whether the word before the joint is a thing, as in "hikes and walks" or "reading and walks"."""
        word = self._at(last)
        return self.change.plural and last != self.at and (is_third(word) or word.endswith("ing"))

    def _takes_things(self) -> bool:
        """Whether the verb has bare nouns: "they love rain and walks", but "they have a dog and work at night"."""
        return self.verb in verbs().takes_nouns and self._at(self.at + 1) not in ("a", "an", "the", "no", "one", "two")
