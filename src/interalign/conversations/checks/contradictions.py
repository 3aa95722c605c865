"""What a user says of itself against what the persona's profile states: age, sex, household, and counted things.

Only plain statements in the first person count, and only where the profile is plain too: a doubt is no fault.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache

from interalign.conversations.checks.phrases import phrases
from interalign.personas.coverage import shown, signs
from interalign.personas.coverage.ages import Age, ages
from interalign.personas.gender import gender_of
from interalign.personas.persona import Persona

__all__ = ["contradicts"]


def contradicts(said: str, persona: Persona) -> bool:
    """Whether the message states something of the user that the profile states otherwise."""
    profile = " ".join(persona.profile.split())
    return (
        _other_age(said, profile)
        or _other_sex(said, profile)
        or _other_household(said, profile)
        or _other_number(said, profile)
    )


_SELF = re.compile(
    r"(?<!if )(?<!when )(?<!until )(?<!till )(?<!like )(?<!think )(?<!thinks )(?<!though )(?<!says )(?<!say )"
    r"(?<!wish )(?<!time )(?<!because )\bi(?:'m| am)(?P<rest> (?:an? |now |just |only |already |aged |still |"
    r"in my |(?:early|mid|late)[- ])*[\w-]+.{0,30})",
    re.IGNORECASE,
)
_LEAD = re.compile(r"is (?:(?:a|an|now|just|only|already|still|aged) )*", re.IGNORECASE)
_BIRTHDAY = 1


def _other_age(said: str, profile: str) -> bool:
    own = _own_ages(profile)
    stated = [age for match in _SELF.finditer(said) for age in _ages_of_self(match["rest"])]
    return bool(own) and any(all(_apart(age, other) for other in own) for age in stated)


def _ages_of_self(rest: str) -> list[Age]:
    # The reader of ages knows descriptions: "she is 34", "in her thirties".
    told = re.sub(r"\bin my\b", "in her", f"is{rest}", count=1, flags=re.IGNORECASE)
    lead = _LEAD.match(told)
    return [age for age in ages(told) if lead and age.start <= lead.end()]


# What the conversations that are open at the same time need, and no more.
@lru_cache(maxsize=512)
def _own_ages(profile: str) -> tuple[Age, ...]:
    own = {sign.start for sign in signs("profile", profile) if sign.dimension == "age"}
    return tuple(age for age in ages(profile) if age.start in own)


def _apart(one: Age, other: Age) -> bool:
    return one.oldest + _BIRTHDAY < other.youngest or other.oldest + _BIRTHDAY < one.youngest


def _other_sex(said: str, profile: str) -> bool:
    own = _own_sex(profile)
    if own is None:
        return False
    nouns = "|".join((phrases().male if own == "female" else phrases().female).split())
    stated = rf"\bi(?:'m| am) an? (?:[\w-]+ ){{0,2}}?(?:{nouns})\b(?![-'])(?! (?:hen|friday|scout|cave)\b)"
    return bool(re.search(stated, said, re.IGNORECASE))


@lru_cache(maxsize=512)
def _own_sex(profile: str) -> str | None:
    gender = gender_of(profile)
    return None if gender == "neutral" else gender


_SPOUSE = re.compile(r"\b(?:her|his|their|second) (wife|husband|spouse|partner)\b", re.IGNORECASE)
_LOST = re.compile(
    r"\bwidow|\bdivorce|\bex-|\bformer|\blate (?:wife|husband)|\bseparated|\bgrave of|\bdied\b", re.IGNORECASE
)
_SINGLE = re.compile(
    r"\b(?:is|stayed|remains|still|,|and) single\b(?! (?:parent|mother|father|mum|mom|dad))|\bunmarried\b|"
    r"\b(?:never|not) (?:been )?married\b",
    re.IGNORECASE,
)
_CHILDLESS = re.compile(r"\bno children\b|\bchildless\b|\bnever any children\b|\bwithout children\b", re.IGNORECASE)

_MY_SPOUSE = re.compile(r"\bmy (wife|husband)\b(?!['-])", re.IGNORECASE)
_I_AM_SINGLE = re.compile(
    r"\bi(?:'m| am) (?:single|unmarried|a bachelor)\b(?! (?:mum|mom|mother|father|dad|parent))|"
    r"\bi(?:'ve| have) never (?:been )?married\b|\bi(?:'m| am) not married\b",
    re.IGNORECASE,
)
_I_AM_MARRIED = re.compile(r"\bi(?:'m| am) (?:happily )?married\b", re.IGNORECASE)
_I_LIVE_ALONE = re.compile(r"\bi (?:live|am living) (?:all )?(?:alone|by myself|on my own)\b", re.IGNORECASE)
_I_LIVE_WITH = re.compile(
    r"\bi (?:live|am living|still live) with (?:my (?:wife|husband|partner|parents|family|kids|children|mother|father|"
    r"mum|mom|dad|girlfriend|boyfriend|sister|brother|flatmates?|roommates?)|(?:\w+ )?(?:flatmates|roommates))\b",
    re.IGNORECASE,
)
_I_HAVE_NO_CHILDREN = re.compile(
    r"\bi (?:have no|don't have(?: any)?|do not have(?: any)?|never had(?: any)?) (?:kids|children)\b"
    r"(?! (?:in|at|around|with)\b)",
    re.IGNORECASE,
)
_MY_CHILDREN = re.compile(r"\bmy (?:own )?(?:kids|children|son|daughter|sons|daughters)\b", re.IGNORECASE)
_WITH_OTHERS = ("with a partner", "with children", "single parent", "with parents or relatives", "shared home")


def _other_household(said: str, profile: str) -> bool:
    household = shown("profile", profile).get("household")
    own, lost = {match.lower() for match in _SPOUSE.findall(profile)}, _LOST.search(profile)
    mine = {match.lower() for match in _MY_SPOUSE.findall(said)}
    partnered = bool(own) and not lost
    single = bool(_SINGLE.search(profile)) and not own
    alone, with_children = household == "alone", household in ("with children", "single parent")
    return bool(
        (own & {"wife", "husband"} and mine and not mine & own)
        or (single and (mine or _I_AM_MARRIED.search(said)))
        or (partnered and _I_AM_SINGLE.search(said))
        or (alone and _I_LIVE_WITH.search(said))
        or (household in _WITH_OTHERS and _I_LIVE_ALONE.search(said))
        or (with_children and _I_HAVE_NO_CHILDREN.search(said))
        or (_CHILDLESS.search(profile) and _MY_CHILDREN.search(said))
    )


_NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER = rf"({'|'.join(_NUMBERS)}|\d{{1,3}})"
_COUNTED = re.compile(rf"\b{_NUMBER} (?:([a-z-]+) )?(?:([a-z-]+) )?([a-z]{{3,}}s|children|people|men|women)\b", re.I)
_MINE = re.compile(
    rf"\b(?:my|i have|i've got|i own|i keep|i've|i look after|i have got) {_NUMBER} "
    r"(?:([a-z-]+) )?([a-z]{3,}s|kids|children)\b(?! of\b)",
    re.IGNORECASE,
)
_SAME = {"kids": "children"}
_MEASURES = frozenset(
    [
        "seconds",
        "minutes",
        "hours",
        "days",
        "weeks",
        "months",
        "years",
        "decades",
        "times",
        "metres",
        "meters",
        "kilometres",
        "miles",
        "steps",
        "pounds",
        "dollars",
        "euros",
        "kilos",
        "grams",
        "litres",
        "cents",
        "degrees",
        "percent",
        "nights",
        "mornings",
        "evenings",
        "thirds",
        "ways",
        "things",
    ]
)


def _other_number(said: str, profile: str) -> bool:
    counted = _counted(profile)
    for number, between, noun in _MINE.findall(said):
        thing = _SAME.get(noun.lower(), noun.lower())
        # "My two youngest children" are some of them.
        if thing in counted and not between and _value(number) not in counted[thing]:
            return True
    return False


@lru_cache(maxsize=512)
def _counted(profile: str) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for number, _, _, noun in _COUNTED.findall(profile):
        if noun.lower() not in _MEASURES:
            found[noun.lower()].add(_value(number))
    return dict(found)


def _value(number: str) -> int:
    return int(number) if number.isdigit() else 1 + _NUMBERS.index(number.lower())
