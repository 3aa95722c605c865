"""Whether a text can be a description at all: cheap checks on form, before anything is compared by meaning."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from interalign.errors import MissingExtra
from interalign.messages import Value
from interalign.personas.description import normalised
from interalign.personas.speech import addresses_a_model

__all__ = ["LANGUAGES", "Fault", "FormConfig", "fault"]

Fault: TypeAlias = Literal[
    "too short",
    "too long",
    "placeholder",
    "speaks to a model",
    "not in the third person",
    "repeats itself",
    "repeats the instructions",
    "another language",
]

LANGUAGES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese",
    "ru": "Russian", "sw": "Swahili", "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip
"""ISO 639-1 code to English name."""


class FormConfig(Value):
    """What a candidate must look like before it is compared with the pool."""

    language: str = "en"
    """ISO 639-1 code of the language that descriptions are written in."""
    min_characters: Annotated[int, Field(ge=1)] = 120
    max_characters: Annotated[int, Field(ge=1)] = 1200
    """The offline encoder reads about this much; what comes after would not be compared."""

    @model_validator(mode="after")
    def _check(self) -> FormConfig:
        if self.language not in LANGUAGES:
            raise ValueError(f"language {self.language!r} is not one of {', '.join(LANGUAGES)}")
        if self.min_characters > self.max_characters:
            raise ValueError("min_characters is above max_characters")
        return self


_PLACEHOLDER = re.compile(
    r"\[(?:insert|your|name|age|city|job|occupation|country|hobby)\b[^\[\]]*\]|\{\w+\}|<\w+>|(?:\.\.\.|…)$", re.I
)
_THIRD_PERSON = re.compile(r"\b(?:she|he|they|her|his|their)\b", re.I)
_OTHER_PERSON = re.compile(r"\b(?:i|me|my|myself|we|our|you|your|yourself)\b", re.I)
_QUOTED = re.compile(r'"[^"]*"|“[^“”]*”')
_OPENING = re.compile(rf"\W*{_OTHER_PERSON.pattern}", re.I)
_PASSING = 2
_SEQUENCE = 6
_REPEATED_SHARE = 0.3
_COPIED_SHARE = 0.3


def fault(text: str, config: FormConfig, instructions: str = "") -> Fault | None:
    """The first thing that keeps `text` from being a description; None when there is nothing.

    Args:
        text: The candidate.
        config: Its limits.
        instructions: What the generator was told; weak models give it back.

    Raises:
        MissingExtra: the package that tells languages apart is not installed.
    """
    return _of_form(text, config) or _of_voice(text, config) or _of_repetition(text, instructions)


def _of_form(text: str, config: FormConfig) -> Fault | None:
    if len(text) < config.min_characters:
        return "too short"
    if len(text) > config.max_characters:
        return "too long"
    return "placeholder" if _PLACEHOLDER.search(text) else None


def _of_voice(text: str, config: FormConfig) -> Fault | None:
    if addresses_a_model(text) is not None:
        return "speaks to a model"
    if not _language_is(text, config.language):
        return "another language"
    return "not in the third person" if config.language == "en" and not _is_in_third_person(text) else None


def _of_repetition(text: str, instructions: str) -> Fault | None:
    sequences = _sequences(text)
    if sequences and len(set(sequences)) < (1 - _REPEATED_SHARE) * len(sequences):
        return "repeats itself"
    told = set(_sequences(instructions))
    copied = sum(one in told for one in sequences) > _COPIED_SHARE * len(sequences)
    return "repeats the instructions" if copied else None


def _is_in_third_person(text: str) -> bool:
    told = _QUOTED.sub(" ", text)
    others = _OTHER_PERSON.findall(told)
    # Somebody's words may stand in a description without quotation marks, but they do not open it.
    passing = 0 if _OPENING.match(told) else _PASSING
    return len(others) <= len(_THIRD_PERSON.findall(text)) + passing


def _sequences(text: str) -> list[str]:
    words = normalised(text).split()
    return [" ".join(words[start : start + _SEQUENCE]) for start in range(len(words) - _SEQUENCE + 1)]


def _language_is(text: str, language: str) -> bool:
    return bool(_identifier().classify(text)[0] == language)


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra("py3langid", "personas") from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    # Among all 97 languages it takes plain English for Luxembourgish now and then.
    identifier.set_languages(list(LANGUAGES))
    return identifier
