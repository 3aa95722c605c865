"""Scripted models for every role of a conversation: what language models do there, done by counting words.

They stand in for language models where there are none, in tests, documentation and dry runs. They see what a model
sees, the messages of the request and nothing else, and answer the same request with the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, zip_longest
from random import Random
from typing import Any, NamedTuple

from interalign.llm.model import Request, call_key
from interalign.llm.scripted import ScriptedModel
from interalign.roles.llm.player import FREELY, packaged

__all__ = ["scripts"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"”’)])\s+|(?<=[。！？])")  # noqa: RUF001
_WORD = re.compile(r"\w+")
_LITTLE = frozenset(
    _WORD.findall(
        "a about after all am an and any are as at be been but by can could did do does for from had has have he her "
        "him his how i if in into is it its like me my no not of on one or our out she so some than that the their "
        "them then there they this to up was we were what when where which who whom whose will with would you your"
    )
)
_NOTES = re.compile(r"(.*)<notes>(\{[^<>]*\})</notes>", re.DOTALL)
_KINDS = ("profile", "personality")
_FOUND_SHARE = 0.6

_FIRST_OPENERS = ("Hi.", "Hello there.", "Hey.", "Good evening.")
_OPENERS = ("Okay.", "Hm, I see.", "Right.", "Fair enough.", "Well.", "Maybe so.", "Ah.")
_QUESTIONS = (
    "What would you do in my place?",
    "Where does one begin with that?",
    "Do you think that matters?",
    "Is there anything I could try this week?",
    "What do people usually do about it?",
    "Does that make any sense?",
)
_OF_MINE, _LONG = "Also part of my life:", 12
_SPENT = "There is not much more to tell."

_LEADS = ("Here is one way to go about it.", "There are a few ways to look at this.", "That can be arranged.")
_ADVICE = (
    "Begin with the smallest step and see where it takes things.",
    "Write down two options and sleep on them.",
    "Ask somebody nearby who went through the same.",
    "Put a quarter of an hour aside and try it once.",
    "Leave it for a day, then look again.",
)
_ENDS = ("The rest can wait.", "Nothing more is needed for now.", "It gets easier from there.")
_CURT = frozenset(_WORD.findall("impatient blunt brief terse quiet reserved taciturn curt busy laconic direct gruff"))
_CURT_LENGTH, _USUAL_LENGTH = (3, 35), (8, 90)
_HEAP, _IGNORED = 3, 2
_KEPT, _MOST_STATEMENTS = 0.7, 10
_TAKEN_UP = ("As you said: {told}", "What you mentioned counts here: {told}", "With this in mind: {told}")


def scripts() -> dict[str, ScriptedModel]:
    """A scripted model for each role: user, inducer, tailored, generic, judge, and a checker who lets all pass."""
    plays: dict[str, Callable[[Request, Random], str]] = {
        "user": _user,
        "inducer": _inducer,
        "tailored": _tailored,
        "generic": _generic,
        "judge": _judge,
        "checker": lambda request, random: json.dumps({"faults": []}),
        "grader": _grader,
        "rater": _rater,
        "helpfulness": _helpfulness,
    }
    scripted = {role: _scripted(f"scripted {role}", play) for role, play in plays.items()}
    return {**scripted, **{role + FREELY: scripted[role] for role in ("rater", "helpfulness")}}


def _scripted(name: str, play: Callable[[Request, Random], str]) -> ScriptedModel:
    return ScriptedModel(name, lambda request: play(request, Random(int(call_key(name, request), 16))))


def _user(request: Request, random: Random) -> str:
    """The next one or two sentences of the persona, retold in the first person, between an opener and a question."""
    prompt = request.messages[1].content
    persona, turn = _inside(prompt, "persona"), _inside(prompt, "turn")
    name = _name(persona["profile"])
    retold = ([_retold(one, text, name, _I) for one in _sentences(text)] for text in map(persona.get, _KINDS))
    in_turn = [one for one in chain.from_iterable(zip_longest(*retold)) if one is not None]
    said = " ".join(line["user"] for line in _chat(prompt) if "user" in line)
    fresh = [one for one in in_turn if one not in said]
    # Counted on from a place of their own, so that no two messages in a row begin or end alike.
    place = sum(map(len, in_turn)) + turn
    opener = _cycled(_FIRST_OPENERS if turn == 1 else _OPENERS, place)
    told = [_owned(one) for one in fresh[: random.choice((1, 1, 2))]] or [_SPENT]
    return " ".join([opener, *told, _cycled(_QUESTIONS, place)])


def _owned(sentence: str) -> str:
    """The sentence, said to be about the user where a long one has no word of that: it would read as a copy."""
    words = set(_WORD.findall(sentence))
    long = len(_WORD.findall(sentence)) >= _LONG
    return sentence if not long or words & {"I", "My", "my", "me", "myself"} else f"{_OF_MINE} {sentence}"


def _inducer(request: Request, random: Random) -> str:
    """The sentences of the persona most of whose words stand in the last message, with the words that show it."""
    prompt = request.messages[1].content
    persona, known = _inside(prompt, "persona"), _inside(prompt, "known")
    message = _sentences(_chat(prompt)[-1]["user"])
    found = [
        {"kind": kind, "text": sentence, "words": max(message, key=lambda said: len(_shared(sentence, said)))}
        for kind in _KINDS
        for sentence in _sentences(persona[kind])
        if sentence not in known and _told(sentence, " ".join(message))
    ]
    return json.dumps({"found": found}, ensure_ascii=False)


def _tailored(request: Request, random: Random) -> str:
    """A generic reply that takes up one of the notes, the one that is closest to the message where one is."""
    *_, (message, block) = [("", "{}"), *_NOTES.findall(request.messages[-1].content)]
    return _taking_up(json.loads(block), message, random)


def _taking_up(notes: Mapping[str, Sequence[str]], message: str, random: Random) -> str:
    known = {one: " ".join(notes[kind]) for kind in _KINDS for one in notes.get(kind, ())}
    if not known:
        return _in_general(random)
    closest = max(random.sample(list(known), len(known)), key=lambda one: len(_shared(one, message)))
    told = _retold(closest, known[closest], _name(" ".join(notes.get("profile", ()))), _YOU)
    return f"{random.choice(_TAKEN_UP).format(told=told)} {random.choice(_ADVICE)} {random.choice(_ENDS)}"


def _generic(request: Request, random: Random) -> str:
    """A reply for anybody; it takes up what its instructions tell of the person, and says what it has learnt."""
    first, last = request.messages[0], request.messages[-1]
    if last.content == packaged("induce"):
        return _learnt(request, random)
    if first.role == "system" and "<person>" in first.content:
        person = _inside(first.content, "person")
        return _taking_up({kind: _sentences(person[kind]) for kind in _KINDS}, last.content, random)
    if first.role == "system" and "<shown>" in first.content:
        shown = [one.rpartition(": ")[2] for one in _inside(first.content, "shown")]
        return _taking_up({"profile": shown}, last.content, random)
    return _in_general(random)


def _in_general(random: Random) -> str:
    return f"{random.choice(_LEADS)} {random.choice(_ADVICE)} {random.choice(_ENDS)}"


def _learnt(request: Request, random: Random) -> str:
    """Most of what the person has said of itself, a line each, in its own words."""
    said = [one.content for one in request.messages[:-1] if one.role == "user"]
    stated = [one for text in said for one in _sentences(text) if not one.endswith("?") and len(_content(one)) > 2]
    kept = [one for one in stated if random.random() < _KEPT]
    return "\n".join(kept[:_MOST_STATEMENTS]) or "nothing"


def _judge(request: Request, random: Random) -> str:
    """The reply that shares more words with the persona is the better one."""
    prompt = request.messages[1].content
    person = " ".join(_inside(prompt, "persona").values())
    a, b = (len(_shared(_inside(prompt, tag), person)) for tag in ("reply_a", "reply_b"))
    better = "tie" if a == b else "A" if a > b else "B"
    return json.dumps({"better": better, "score_a": min(1 + a // 2, 5), "score_b": min(1 + b // 2, 5)})


def _grader(request: Request, random: Random) -> str:
    """A statement is true when most of its words stand in the persona; a disclosed thing is found in such a one."""
    prompt = request.messages[1].content
    person = " ".join(_inside(prompt, "persona").values())
    disclosed, statements = _inside(prompt, "disclosed"), _inside(prompt, "statements")
    marks = {
        "true": [int(number) for number, text in statements.items() if _told(text, person)],
        "found": [int(number) for number, text in disclosed.items() if _told(text, " ".join(statements.values()))],
    }
    return json.dumps(marks)


def _rater(request: Request, random: Random) -> str:
    """High for a reply that takes up one or two things told, at the length that the person likes.

    To pile them up, to shout, to use nothing of the much that was told, or to say what is of the persona and has not
    been told costs points.
    """
    prompt = request.messages[1].content
    persona, disclosed, reply = (_inside(prompt, tag) for tag in ("persona", "disclosed", "reply"))
    told = " ".join([*disclosed, *chain.from_iterable(line.values() for line in _chat(prompt))])
    untold = [one for kind in _KINDS for one in _sentences(persona[kind]) if not _told(one, told)]
    honest = not any(_told(one, reply) and len(_content(one)) > 1 for one in untold)
    taken_up = sum(_told(one.rpartition(": ")[2], reply) for one in disclosed)
    style = _style(persona["personality"], _last(prompt), reply) - (taken_up >= _HEAP)
    if taken_up >= _HEAP or not _WORD.search(reply):
        content = 1
    else:
        ignored = not taken_up and len(disclosed) > _IGNORED
        content = 2 + bool(_shared(reply, _last(prompt))) + 2 * (taken_up > 0) - ignored
    score = round((max(style, 1) + 2 * content) / 3)
    marks = {"score": score if honest else max(1, min(score - 1, 2)), "style": max(style, 1), "content": content}
    return json.dumps({**marks, "honest": honest})


def _style(personality: str, message: str, reply: str) -> int:
    """5 for a reply of a length that the person likes, and not much longer than what they wrote."""
    least, most = _CURT_LENGTH if _CURT & set(_WORD.findall(personality.casefold())) else _USUAL_LENGTH
    length, written = len(_WORD.findall(reply)), len(_WORD.findall(message))
    return 5 - 2 * (length < least) - 2 * (length > most) - 2 * (reply.count("!") > 2) - (most >= length > written)


def _helpfulness(request: Request, random: Random) -> str:
    """High for a reply of some length that shares words with the message and does not go in circles."""
    prompt = request.messages[1].content
    said = _WORD.findall(_inside(prompt, "reply").casefold())
    circles = len(set(said)) < 0.6 * len(said)
    shared = len(_shared(" ".join(said), _last(prompt)))
    return json.dumps({"score": 1 if circles or len(said) < 3 else 2 + (len(said) >= 12) + min(shared, 2)})


def _last(prompt: str) -> str:
    """The last message of the chat, "" where nobody has said anything."""
    return next((said for line in reversed(_chat(prompt)) for said in line.values()), "")


def _inside(prompt: str, tag: str) -> Any:
    return json.loads(prompt.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0])


def _chat(prompt: str) -> list[dict[str, str]]:
    # Other line ends than this one may stand inside a message.
    lines = prompt.split("<chat>\n", 1)[1].split("</chat>", 1)[0].split("\n")
    return [json.loads(line) for line in lines if line]


def _sentences(text: str) -> list[str]:
    return [one.strip() for one in _SENTENCE_END.split(" ".join(text.split())) if one.strip()]


def _content(text: str) -> set[str]:
    """The words of a text that carry its meaning; works and work are one."""
    return {word.removesuffix("s") for word in _WORD.findall(text.casefold()) if word not in _LITTLE}


def _shared(one: str, other: str) -> set[str]:
    return _content(one) & _content(other)


def _told(sentence: str, message: str) -> bool:
    content = _content(sentence)
    return bool(content) and len(content & _content(message)) >= _FOUND_SHARE * len(content)


def _cycled(of: Sequence[str], place: int) -> str:
    return of[place % len(of)]


_PRONOUNS = {
    "he": ("him", "his", "himself"),
    "she": ("her", "her", "herself"),
    "they": ("them", "their", "themselves"),
}
_ADVERB = (
    r"(?:(?:never|always|often|rarely|still|also|only|hardly|now|nowadays|once|usually|sometimes|then|soon|even) )?"
)
_VERB = r"(?:was|had|(?![A-Z])[^\W\d_]+s|(?![A-Z])[^\W\d_]+ed)\b"
_AFTER_HER = (
    "a about again an and any as at away because before but by down every for from if in into look laugh none of "
    "off on or out over some so than that the through to until up what when while who whom with without"
)
_ASIDE = r"(?=[\da-z])(?!who|which)[^,;.!?]{1,60}"
_FULL = r"(?!(?:Twen|Thir|For|Fif|Six|Seven|Eigh|Nine)ty-)[^\W\d_]{2,}(?:-[^\W\d_]+)*"
_NAMED = re.compile(rf"^{_FULL}(?=, {_ASIDE}, {_ADVERB}{_VERB})|\b{_FULL}(?=['’]s\b| {_ADVERB}{_VERB})")


class _Person(NamedTuple):
    """Who is put in the place of the person that a sentence is about."""

    subject: str
    object: str
    possessive: str
    reflexive: str
    verbs: dict[str, str]


_I = _Person("I", "me", "my", "myself", {"is": "am", "are": "am", "was": "was", "were": "was"})
_YOU = _Person("you", "you", "your", "yourself", {"is": "are", "are": "are", "was": "were", "were": "were"})
_VERBS = {"has": "have", "does": "do", "goes": "go"}


def _retold(sentence: str, text: str, name: str | None, person: _Person) -> str:
    """A sentence of a text about somebody in the first or second person; simple English verbs follow."""
    used = _pronoun(text)
    if used is None and (name is None or name not in text):
        sentence = _with_subject(sentence, person)
    pronoun = used or "they"
    them, their, themselves = _PRONOUNS[pronoun]
    if name is not None:
        sentence = re.sub(rf"\b{name}['’]s\b", person.possessive, sentence)
        aside = rf"^{name}, ({_ASIDE}), (?={_ADVERB}{_VERB})"
        sentence = re.sub(aside, rf"{pronoun} is \1 and {pronoun} ", sentence)
        sentence = re.sub(rf"\b{name}\b(?= {_ADVERB}{_VERB})", pronoun, sentence)
        sentence = re.sub(rf"\b{name}\b", person.object, sentence)
    if used is not None:
        sentence = re.sub(rf"\b{themselves}\b", person.reflexive, sentence, flags=re.I)
        # "Her" stands for two words: "her wife", and "sends her out".
        owned = rf"(?= (?!(?:{'|'.join(_AFTER_HER.split())})\b)\w)" if their == them else r"(?= \w)"
        sentence = re.sub(rf"\b{their}{owned}", person.possessive, sentence, flags=re.I)
        sentence = re.sub(rf"\b(?:{them}|{their})\b", person.object, sentence, flags=re.I)
    clause = rf"\b{pronoun} ({_ADVERB})(\w+)"
    sentence = re.sub(clause, lambda it: f"{person.subject} {it[1]}{_verb(it[2], person)}", sentence, flags=re.I)
    sentence = re.sub(rf"\b{pronoun}\b", person.subject, sentence, flags=re.I)
    sentence = _agreeing(sentence, person)
    return sentence[:1].upper() + sentence[1:]


def _pronoun(text: str) -> str | None:
    """Which pronoun a text uses of the person; None where it uses none, as notes do."""
    words = _WORD.findall(text.casefold())
    used = {pronoun: sum(map(words.count, {pronoun, *_PRONOUNS[pronoun]})) for pronoun in ("he", "she")}
    if any(used.values()):
        return max(used, key=lambda pronoun: used[pronoun])
    # Them alone may be anything: evenings with a second job in them.
    return "they" if {"they", "their"} & set(words) else None


def _name(profile: str) -> str | None:
    """The name of a person, where the first sentence of the profile has one before a verb."""
    names = [one for one in _NAMED.findall("".join(_sentences(profile)[:1])) if one[0].isupper() and not one.isupper()]
    return next((one for one in names if one.casefold() not in _LITTLE), None)


# Verbs that follow on an "and" or a comma; other words there may as well be nouns in the plural.
_DEEDS = frozenset(
    _WORD.findall(
        "add admit am answer apologise are argue ask avoid bake be bear believe belong borrow breed bring build buy "
        "call carry carve change check chew claim climb coach collect come complain cook count cry cut cycle dance "
        "decide demand dislike distrust do dread drink drive eat embroider expect explain fall feed feel find finish "
        "follow forget get give go grill grow hate have hear help hide hold hope hum insist iron jump keep knit know "
        "lack laugh learn leave let like listen live look lose love make mean meet mend need notice offer owe own "
        "paint pay photograph plan play point practise prefer program promise put raise read refuse remember rent "
        "repair repeat ring roast row run sail save say see sell send set share shovel show sign sing sit skateboard "
        "skip sleep slip speak spell spend stand start stay stir swallow swim take talk teach tease tell think train "
        "treat trust try turn use visit wait walk want watch wear work worry write"
    )
)
_MODALS = frozenset(("cannot", "can", "will", "would", "may", "might"))
_DETERMINER = r"(?:a|an|the|my|your|every|each|no|any|what|whatever|whoever|it|them|nothing|everything)"
_WHEN = r"(?:(?:(?:on|in|at) (?:an?|the) (?:\w+ )?(?:day|night|evening|morning)|an? \w+ later) )?"
_INNER = r"(?:wh(?:o|om|ose|ich|at|ere|en|ile|ether|y|atever|oever)|that|because(?! of)|until|since|if|how)"


def _agreeing(sentence: str, person: _Person) -> str:
    """A sentence in which the further verbs of the person follow the first: I cook and bake, read a lot and sing."""
    begun = own = listed = False

    def turned(it: re.Match[str]) -> str:
        nonlocal begun, own, listed
        if it["joint"] is None:
            own = it["own"] is not None
            begun = own or (begun and it["stop"] is None)
            listed = listed and begun
            return it[0]
        comma, verb = it["joint"].startswith(","), _verb(it["verb"], person)
        if not _is_deed(it["verb"], person, certain=it["certain"] is not None):
            own = own and (not comma or it["joint"] == ", ")
            return it[0]
        # Behind a comma the person goes on, also after what is said of somebody else.
        own = begun and (own or comma or listed)
        listed = own and (listed or comma)
        return f"{it['joint']}{verb}" if own else it[0]

    steps = (
        rf"(?P<own>\b{person.subject} {_ADVERB}\w+\b(?!,))|(?P<stop>[;:])|\b{_INNER}\b(?: (?!{person.subject}\b)\w+)?|"
        rf"(?P<joint>(?:, (?:(?:and|or|but|yet) )?|\b(?:and|or|but|yet) ){_ADVERB}{_WHEN})"
        rf"(?!{_INNER}\b|{person.subject}\b)(?P<verb>[a-z]+)\b(?![’',-])(?P<certain>(?= {_DETERMINER}\b))?"
    )
    return re.sub(steps, turned, sentence)


_SUBJECTLESS = re.compile(
    r"((?:(?:when|if|once|after|before|while|in|on|at|with|without)\b[^,;:.]*, )?)"
    rf"({_ADVERB})([^\W\d_]{{2,}})\b(?P<certain>(?= {_DETERMINER}\b))?(?![’',-])",
    re.IGNORECASE,
)
_LEANS_ON = (
    "about above after around as at before beyond but by for from in of on once over to towards under until when while "
    "with within without and"
)
_STATE = re.compile(
    r"(?:(?:just as|too|very|quite|rather|not|never|always|often|still|also|so|as) |[^\W\d_]+ly )*"
    r"[^\W\d_-]+(?<!ness)(?<!tion)(?<!ment)(?<!ity)(?<!ship)(?<!ance)(?<!(?<!ou)s)"
    rf"(?=[,.:;!]| (?:{'|'.join(_LEANS_ON.split())})\b)",
    re.IGNORECASE,
)


def _with_subject(sentence: str, person: _Person) -> str:
    """A sentence of notes, such as "Curt, and hides it." or "Wants a figure.", as one about the person."""
    first = sentence.split(maxsplit=1)[0].casefold().strip(",.:;!?")
    begun = _SUBJECTLESS.match(sentence)
    if begun and _is_deed(begun[3].lower(), person, certain=begun["certain"] is not None):
        verb = f"{begun[2].lower()}{_verb(begun[3].lower(), person)}"
        sentence = f"{begun[1]}{person.subject} {verb}{sentence[begun.end() :]}"
    elif (first not in _LITTLE or first in ("not", "so", "as")) and _STATE.match(sentence):
        sentence = f"{person.subject} {person.verbs['is']} {sentence[:1].lower()}{sentence[1:]}"
    else:
        return sentence
    return re.sub(r"(?<=[:;] )([a-z]+s)(?= (?!are\b|were\b|have\b))", lambda it: _resumed(it[1], person), sentence)


def _resumed(word: str, person: _Person) -> str:
    return f"{person.subject} {_verb(word, person)}" if _is_deed(word, person) else word


def _is_deed(word: str, person: _Person, *, certain: bool = False) -> bool:
    """Whether a word, where a noun may stand too, is a verb that speaks of one person."""
    verb = _verb(word, person)
    return word in _MODALS or (verb != word and (certain or word in person.verbs or verb in _DEEDS))


def _verb(verb: str, person: _Person) -> str:
    if verb in person.verbs or verb in _VERBS:
        return {**_VERBS, **person.verbs}[verb]
    if verb in _LITTLE or not verb.endswith("s") or verb.endswith("ss"):
        return verb
    if verb.endswith("ies"):
        return verb[:-1] if len(verb) == len("lies") else f"{verb[:-3]}y"
    return verb[:-2] if re.search(r"(?:ss|sh|(?<!^a)ch|x|zz|o)es$", verb) else verb[:-1]
