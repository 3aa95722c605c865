from __future__ import annotations

from interalign.personas.style import DIMENSIONS
from interalign.roles.measure import count_emoji, style_of, words
from interalign.roles.phrases import responder_phrases, user_phrases


def test_there_is_a_remark_on_every_miss() -> None:
    reactions = user_phrases().reaction
    assert set(reactions) == set(DIMENSIONS)
    for dimension, by_wanted in reactions.items():
        expected = {"shorter", "longer"} if dimension == "length" else set(DIMENSIONS[dimension])
        assert set(by_wanted) == expected
        for remarks in by_wanted.values():
            for kind in (remarks.plain, remarks.polite, remarks.blunt, remarks.praise):
                assert len(set(kind)) == len(kind) >= 6


def test_no_list_says_a_thing_twice() -> None:
    for phrases in (user_phrases(), responder_phrases()):
        for texts in phrases.model_dump(exclude={"emoji", "casual", "contractions", "reaction"}).values():
            assert len({text.casefold() for text in texts}) == len(texts) >= 6


def test_emoji_are_emoji() -> None:
    for group in user_phrases().emoji.values():
        assert all(count_emoji(symbol) == 1 for symbol in group)
        assert len(set(group)) == len(group) >= 2


def test_responders_phrases_measure_as_what_they_are_for() -> None:
    phrases = responder_phrases()
    assert all(style_of(opening)["warmth"] == "warm" for opening in phrases.warm_short)
    # A draft with an opening that does not measure as warm is thrown away, so most of them must.
    warm = [opening for opening in phrases.warm_opening if style_of(opening)["warmth"] == "warm"]
    assert len(warm) >= 0.75 * len(phrases.warm_opening)
    for frame in (*phrases.gentle, *phrases.list_lead_gentle):
        assert style_of(frame)["directness"] == "gentle"
    for frame in (*phrases.direct, *phrases.list_lead, *phrases.connector):
        assert style_of(frame)["directness"] == "direct"
    for lead in phrases.casual_lead:
        assert style_of(lead)["formality"] == "casual"


def test_frames_take_one_verb_phrase() -> None:
    for frame in (*responder_phrases().gentle, *responder_phrases().direct):
        filled = frame.format(vp="do it", Vp="Do it")
        assert filled.casefold().count("do it") == 1
        assert "{" not in filled


def test_short_forms_are_short() -> None:
    phrases = responder_phrases()
    assert all(len(words(text)) <= 6 for text in (*phrases.warm_short, *phrases.question_short))
