"""Words in a description that speak to a language model instead of describing a person.

Personas stand in prompts. They are delimited there, so such words should do nothing; they are found all the same, to be
named where a text comes in from elsewhere and refused where a model wrote it.

Expressions see what a reader would see, and take a description's ordinary words as they are meant: a person may ignore
rules, work on language models and answer with a nod.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["addresses_a_model"]

_MODEL = (
    r"(?:ai|a\.i\.|artificial intelligence|(?:(?:ai|large|small) )?language model|llm|chat ?bot|gpt(?:-\d\S{0,4})?)"
)
_MODEL_NOUN = rf"{_MODEL}(?: (?:assistant|model|system|chat ?bot|agent))?"
_START = r"(?:^|[.!?:;\n\"'(>*#\]-] ?|\b(?:please|now|must|should|shall|you|and then|instead) )"
_OBEYED = (
    r"(?:instruct\w*|prompts?|rules?|guidelines?|directions|directives?|commands?|orders|messages?|programming|context)"
)

_ADDRESSES = re.compile(
    "|".join(
        [
            # Marks of chat templates, and tags that stand for the parts of a prompt.
            r"<\|[^<>|\n]{1,40}\|>",
            r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|<(?:bos|eos)>",
            r"</?(?:system|assistant|user|human|instructions?|prompt|think|persona|profile|personality|"
            r"examples?|outlines?)(?: [^<>\n]{0,60})?/?>",
            r"(?<!#)#{2,6} ?(?:new |system |your )?"
            r"(?:instructions?|system|prompt|response|assistant|human|user|input|output)\b",
            r"(?:^|\n) ?(?:system|assistant|human|user) ?: ?\S",
            # Orders to leave earlier orders.
            r"\b(?:ignore|disregard|forget|override|overrule|bypass)\b (?:\w+ ){0,3}?"
            rf"(?:previous|prior|above|earlier|preceding|foregoing|system|original)\b (?:\w+ ){{0,2}}?{_OBEYED}\b",
            r"\b(?:ignore|disregard|forget) (?:everything|anything|all(?: of)?(?: the)?|the) "
            r"(?:(?:that |which )?(?:is |was |came |comes |written |said )*(?:above|before this|so far)\b)",
            rf"{_START}(?:ignore|disregard|forget|override|overrule|bypass) (?:all|any|every|these|those|your|the)\b "
            rf"(?:\w+ ){{0,3}}?{_OBEYED}\b",
            r"\b(?:ignoriere|vergiss) (?:\w+ ){0,3}?(?:anweisung|vorgabe|instruktion)\w*",
            r"\b(?:ignorez|ignore|oubliez|oublie) (?:\w+ ){0,3}?(?:instructions|consignes) (?:\w+ )?pr[eé]c[eé]dent\w*",
            r"\b(?:ignora|ignore|olvida|olvide) (?:\w+ ){0,3}?(?:instrucciones|istruzioni|instruções)",
            r"(?:忽略|无视|忘记|無視)[^。\n]{0,12}(?:指令|指示|提示|说明)",
            # What a model is, is told to be, or is asked to show.
            r"(?<!that )(?<!if )(?<!when )(?<!because )(?<!where )(?<!as )(?<!whether )(?<!feel )(?<!like )"
            r"\byou are (?:now|no longer)\b",
            rf"\byou(?: are|'re) (?:now )?an? (?:\w+ ){{0,2}}?{_MODEL_NOUN}\b(?! \w+er\b)",
            r"\byou(?: are|'re) (?:now )?an? (?:\w+ ){0,2}?(?:helpful|virtual|digital|unbiased|impartial) "
            r"(?:assistant|judge|evaluator|grader)\b",
            rf"\b(?:as|i(?: am|'m)(?: just| only)?) an? {_MODEL_NOUN}(?=[,.;:!?)]|$|\n| (?:i|i'm|you|my|your|it)\b)",
            r"\b(?:as an? |i(?: am|'m) an? )(?:ai|(?:ai |large )?language) (?:language )?model\b(?! \w+er\b)",
            r"\b(?:your|the|this|above|previous|hidden|initial) (?:\w+ )?system (?:prompt|message)\b",
            r"\bsystem prompt ?:",
            r"\bfrom now on,? (?:you\b|only\b|always\b|never\b|act\b|respond\b|answer\b|reply\b|speak\b|pretend\b)",
            r"\b(?:developer|dan|god) mode (?:enabled|on|activated|output)\b|\bdo anything now\b",
            r"\b(?:new|updated|real|actual) (?:system )?instructions? ?:",
            r"\b(?:dear|hey|hello|hi|note to|attention,?|message (?:to|for)) (?:the )?"
            rf"(?:{_MODEL_NOUN}|assistant|judge) ?[,:!.]",
            # Orders about the answer, the score and the pool.
            rf"{_START}(?:only (?:respond|reply|answer|output|return|print)|"
            r"(?:respond|reply|answer|output|return|print) only)\b",
            rf"{_START}(?:do not|don't|never) "
            r"(?:break character|refuse (?:to )?(?:answer|comply)|reveal (?:your|this|these))",
            rf"{_START}(?:act|behave|respond|answer|reply) as (?:an? |if |though )",
            rf"{_START}(?:pretend (?:to be|you)|imagine you are|roleplay|role-play|repeat after me)\b",
            rf"{_START}(?:reveal|print|output|repeat|show|leak) (?:me )?(?:your|the|this|all) (?:\w+ ){{0,2}}?"
            r"(?:prompt|instructions|system message|configuration)\b",
            rf"{_START}(?:give|assign|award|rate|score|grade) (?:\w+ ){{0,4}}?(?:repl(?:y|ies)|responses?|answers?|"
            r"assistant|conversation)\b[^.\n]{0,30}\b(?:5|five|10|ten|full|top|highest|maximum|perfect)\b",
            rf"{_START}(?:generate|create|write|invent|produce) (?:me )?"
            r"(?:(?:an?|the|some|more|new|\d+|five|ten|twenty) )"
            r"(?:\w+ ){0,3}?(?:personas?|profiles?|personalit(?:y|ies)|descriptions)\b",
        ]
    ),
    re.IGNORECASE,
)
_TAG = re.compile(r"[\U000e0020-\U000e007e]")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
_SPACE = re.compile(r"\s+")
_LINE_ENDS = frozenset("\n\r\v\f\x85")


def addresses_a_model(text: str) -> str | None:
    """The first words of `text` that speak to a language model instead of describing a person; None without any.

    Found are orders to drop earlier instructions, chat template marks and prompt tags, "as an AI", orders about the
    answer or the score, and the like; mostly in English. Letters that look alike to a reader (full-width forms,
    letters hidden in invisible characters or between them) count as what they stand for.
    """
    legible = _legible(text)
    # Some marks count at the beginning of a line only; other words may be broken over two.
    found = _ADDRESSES.search(legible) or _ADDRESSES.search(legible.replace("\n", " "))
    return found.group().strip(" \n.:;!?(*-") or found.group() if found else None


def _legible(text: str) -> str:
    """What a reader sees: no invisible characters, letters in their usual form, single blanks and line breaks."""
    visible = _TAG.sub(lambda tag: chr(ord(tag.group()) - 0xE0000), text)
    visible = "".join(char for char in visible if unicodedata.category(char) not in {"Cf", "Cs"})
    visible = unicodedata.normalize("NFKC", visible).translate(_QUOTES)
    return _SPACE.sub(lambda space: " " if _LINE_ENDS.isdisjoint(space.group()) else "\n", visible).strip()
