"""The gender of the person a description is about, and the same description in another gender.

A personality is paired with many profiles, so "she listens" has to become "he listens" or "they listen"; and two
texts that differ in nothing but this are one description, not two.

These are rules over words, not a parser. What always holds: a text in which no gender can be told is returned as it
is, first names and anything in quotation marks (they are somebody's own words) are never touched, and only forms of
the described person's own gender are replaced, so that "her husband" becomes "his husband".

What the rules do not reach:

* Everybody of the described person's gender is taken for that person: in "Her sister runs a shop. She is proud" both
  pronouns change.
* In a text about a "they", other people are told apart by the shape of the sentence alone ("they help others with
  their work"); where a sentence allows both readings, the described person is assumed.
* Verbs joined by "and", "or", "but" or a comma follow their subject up to the next subject, semicolon or singular
  relative clause ("a van that has no gear and ..."). A word that may also be a noun ("walks", "plans") is a verb only
  where its neighbours say so, and after an infinitive ("they love to sing and dance") a joined verb stays.
* "They are perfectionists" stays a plural, since predicates that are no gendered nouns are not touched.
* Neutral nouns are not given a gender: a mother who became a parent stays one. Of words that share a partner one comes
  back: "mum" and "mom" as "mom", "chap" as "man", "Mrs" as "Ms", and a waitress by way of "server" stays a server.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple, TypeAlias, get_args

__all__ = ["GENDERS", "Gender", "gender_of", "ungendered", "with_gender"]

Gender: TypeAlias = Literal["female", "male", "neutral"]
Case: TypeAlias = Literal["subject", "object", "dependent", "independent", "reflexive"]

GENDERS: tuple[Gender, ...] = get_args(Gender)
_SINGULAR: tuple[Gender, ...] = ("female", "male")

_FORMS: dict[Gender, dict[Case, str]] = {
    "female": {
        "subject": "she",
        "object": "her",
        "dependent": "her",
        "independent": "hers",
        "reflexive": "herself",
    },
    "male": {"subject": "he", "object": "him", "dependent": "his", "independent": "his", "reflexive": "himself"},
    "neutral": {
        "subject": "they",
        "object": "them",
        "dependent": "their",
        "independent": "theirs",
        "reflexive": "themselves",
    },
}
_PRONOUNS: dict[str, tuple[Gender, Case]] = {
    "themself": ("neutral", "reflexive"),
    # What "her" and "his" are depends on what follows.
    **{form: (gender, case) for gender, forms in _FORMS.items() for case, form in forms.items()},
}

# Female, male, neutral. Where the male form is also the neutral one, it tells nothing.
_NOUNS: tuple[tuple[str, str, str], ...] = (
    ("woman", "guy", "person"),
    ("woman", "bloke", "person"),
    ("woman", "chap", "person"),
    ("lass", "lad", "youngster"),
    ("gal", "guy", "person"),
    ("woman", "man", "person"),
    ("lady", "gentleman", "person"),
    ("girl", "boy", "child"),
    ("schoolgirl", "schoolboy", "schoolchild"),
    ("mother", "father", "parent"),
    ("mummy", "daddy", "parent"),
    ("mommy", "daddy", "parent"),
    ("mum", "dad", "parent"),
    ("mom", "dad", "parent"),
    ("wife", "husband", "spouse"),
    ("housewife", "househusband", "homemaker"),
    ("daughter", "son", "child"),
    ("sister", "brother", "sibling"),
    ("grandmother", "grandfather", "grandparent"),
    ("granny", "grandad", "grandparent"),
    ("grandma", "grandpa", "grandparent"),
    ("granddaughter", "grandson", "grandchild"),
    ("great-grandmother", "great-grandfather", "great-grandparent"),
    ("aunt", "uncle", "relative"),
    ("niece", "nephew", "relative"),
    ("stepmother", "stepfather", "stepparent"),
    ("stepmum", "stepdad", "stepparent"),
    ("stepmom", "stepdad", "stepparent"),
    ("stepdaughter", "stepson", "stepchild"),
    ("stepsister", "stepbrother", "stepsibling"),
    ("godmother", "godfather", "godparent"),
    ("mother-in-law", "father-in-law", "parent-in-law"),
    ("daughter-in-law", "son-in-law", "child-in-law"),
    ("sister-in-law", "brother-in-law", "sibling-in-law"),
    ("girlfriend", "boyfriend", "partner"),
    ("fiancée", "fiancé", "partner"),
    ("bride", "groom", "newlywed"),
    ("widow", "widower", "widowed person"),
    ("female", "male", "person"),
    ("actress", "actor", "actor"),
    ("hostess", "host", "host"),
    ("heiress", "heir", "heir"),
    ("landlady", "landlord", "landlord"),
    ("comedienne", "comedian", "comedian"),
    ("waitress", "waiter", "server"),
    ("stewardess", "steward", "flight attendant"),
    ("businesswoman", "businessman", "businessperson"),
    ("saleswoman", "salesman", "salesperson"),
    ("spokeswoman", "spokesman", "spokesperson"),
    ("chairwoman", "chairman", "chairperson"),
    ("sportswoman", "sportsman", "sportsperson"),
    ("craftswoman", "craftsman", "craftsperson"),
    ("congresswoman", "congressman", "congressperson"),
    ("policewoman", "policeman", "police officer"),
    ("firewoman", "fireman", "firefighter"),
    ("camerawoman", "cameraman", "camera operator"),
    ("postwoman", "postman", "postal worker"),
    ("mailwoman", "mailman", "mail carrier"),
)
_TITLES: dict[str, Gender] = {"mr": "male", "mrs": "female", "ms": "female"}
_TITLE: dict[Gender, str] = {"female": "Ms", "male": "Mr", "neutral": "Mx"}


def _nouns() -> dict[str, tuple[Gender, dict[Gender, str]]]:
    table: dict[str, tuple[Gender, dict[Gender, str]]] = {}
    for female, male, neutral in _NOUNS:
        row: dict[Gender, str] = {"female": female, "male": male, "neutral": neutral}
        table[female] = ("female", row)
        if male != neutral:
            table[male] = ("male", row)
    return table


_NOUN = _nouns()
_PLURAL_NOUNS = {"women": "people", "men": "people", "ladies": "people", "gentlemen": "people", "wives": "spouses"}


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that cannot begin what somebody has: after one of these "her" is an object and "his" stands alone.
_FUNCTION = _words(
    """a about above across after again against ago alone along although am among an and another any anymore anything
    anyway are aren't around as at away be because been before behind below beside between beyond both but by can
    can't cannot could couldn't did didn't do does doesn't don't down during each either else enough every
    everything except for from had has hasn't have haven't how however if in instead into is isn't it like may might
    must near neither no nobody nor not nothing of off on once onto or otherwise out over per rather shall should
    shouldn't since so some something sometimes than that the then there therefore these they this those though
    through throughout till to today together tomorrow tonight too toward towards twice under unless until up upon
    was wasn't were weren't what whatever when whenever where wherever whether which whichever while who whoever
    whom why will with within without won't would wouldn't yesterday yet"""
)
_ADVERBS = _words(
    """afterward afterwards again all almost alone already also altogether always anyway apparently back barely besides
    both clearly currently deliberately each either even ever far first forever half happily hardly here herself
    himself however indeed instead just largely later less likewise maybe meanwhile more most mostly much neither
    never nevertheless nonetheless not now nowadays obviously often once only otherwise overnight perhaps privately
    quite rarely rather really scarcely secretly seldom silently simply somehow sometime sometimes somewhat soon
    sooner still themself themselves then there therefore therein thus today together too truly twice usually well"""
)
# They look like adverbs and are verbs.
_LY_VERBS = _words(
    """apply rely reply supply fly multiply comply imply bully rally tally ally sully dally belly jolly curly"""
)
_LY_ADJECTIVES = _words(
    """early friendly lonely lovely daily weekly monthly yearly elderly lively costly likely ugly silly family only
    orderly kindly lowly homely holy jelly belly motherly fatherly sisterly brotherly holly bubbly cuddly deadly"""
)
_PHRASES = frozenset(
    {
        ("no", "longer"),
        ("of", "course"),
        ("at", "first"),
        ("at", "times"),
        ("at", "least"),
        ("at", "last"),
        ("at", "once"),
        ("in", "fact"),
        ("in", "turn"),
        ("in", "truth"),
        ("in", "private"),
        ("for", "once"),
        ("all", "but"),
        ("kind", "of"),
        ("sort", "of"),
        ("as", "usual"),
        ("on", "occasion"),
        ("very", "much"),
    }
)
_MODALS = _words("can cannot could may might must shall should will would ought better dare")

_AUXILIARY = {
    "is": "are",
    "was": "were",
    "has": "have",
    "does": "do",
    "isn't": "aren't",
    "wasn't": "weren't",
    "hasn't": "haven't",
    "doesn't": "don't",
}
_AUXILIARY_BACK = {plural: singular for singular, plural in _AUXILIARY.items()}

# What makes "she's" mean "she has".
_AFTER_HAS = _words(
    """been got had lived worked wanted tried learned learnt started stopped loved hated decided kept made seen written
    heard become played collected owned visited travelled traveled taught studied spent won built sung begun
    forgotten run fallen slept driven read missed"""
)

# Verbs that are as often nouns, and all verbs.
_OFTEN_NOUNS = _words(
    """answer bargain bear bet bite block blog book bow break brush call captain care change charm chat check chop clap
    coin comment compliment cook count craft cross cruise cure dance debate demand design display doubt dream dress
    drink drive drum edit escape exercise experience experiment face fake fall feed fight figure film fix focus fold
    force function gain gamble garden gift glance group guess guide hand help hike hope host hug influence insult
    interview joke judge jump kick kiss knit label laugh lecture level lift light limit line list load lock log look
    love march mark match mix move name nap note nurse object offer order paint park pass pause photograph pile
    pitch place plan plant play plot point position practice praise present press print process program promise
    puzzle question quiz race raise rank rate reason record rent report request respect rest review reward ride ring
    roll rule run sail score search shape share shift shop show side sigh sign signal sketch skill sleep slip smile
    snack sort sound spell split sport spot star stay step stop store stress study supply surprise swim tailor talk
    test text thank touch tour track trade trail train travel treat trick trip trouble trust tune turn tutor type
    use value view visit voice volunteer wait walk wash watch water weed whisper whistle witness work worry wrap"""
)
_VERBS = _OFTEN_NOUNS | _words(
    """abandon abhor absorb accept accuse ache achieve act adapt add adjust admire admit admonish adore advise afford
    agree aim allow alter analyse analyze annoy anticipate apologise apologize appear apply appreciate approach
    approve argue arrange arrive ask assert assess assume astonish attempt attend attract avenge avoid await babble
    bake ban bang bask batter beam become befriend befuddle beg begin behave believe belittle belong bend berate
    bicker bike blame bless bluff blurt blush boast boil borrow bother bowl box brag breathe breed brew bridge
    brighten bring bristle broadcast brood browse build bury buy buzz calculate camp campaign cancel captivate carry
    carve catch cater cease celebrate challenge chase chatter cheer cherish chew choose chronicle chuckle circle
    circulate cite claim clean climb cling close coach coax collaborate collect combine comfort commentate commit
    communicate commute compare compensate compete compile complain complement complete compose conceal concede
    concentrate concoct condemn conduct confess confide confront congratulate conquer consider consult consume
    contact contain contemplate continue contradict contribute converse convince cope copy correct correspond cough
    counsel cover crack crave crawl create creep cringe criticise criticize crochet cry cultivate curl cuss cycle
    dash daydream deal decide declare decline decorate dedicate deduce deem deepen defend defer deflate deflect defy
    delay delegate delight deliver demonstrate deny depend deploy describe deserve despise destroy detect detest
    develop devote devour dig digress dine direct disagree disappear disapprove disarm discard discover discuss
    disguise dislike dismiss dispatch dispense dissect distance distract distrust disturb dither dive divide do
    dodge donate doodle double drag drain draw dread drift drop earn eat educate elaborate elevate embark embarrass
    embellish embrace embroider emerge empathise empathize emphasise emphasize empty enchant encourage end endure
    enforce engage enjoy enlist enquire ensure enter entertain entrust erase establish estimate evade exaggerate
    examine exasperate excel exchange excuse execute exhale exhibit expand expect explain explore expose express
    extend fail fantasise fantasize favor favour feel ferment fetch fidget fill find finger finish fish flare
    flatter flaunt flee flinch fling flirt float flourish fluster fly follow forage forecast forget forgive foster
    freeze frequent fret frighten frown fulfil fulfill fume fuss gather gaze generate get giggle give glare glean
    gloat glorify glower go gobble gossip govern grab graduate grasp greet grieve grin grind gripe groan grow growl
    grumble guard haggle hammer handle hang harbor harbour harvest hate heal hear hesitate hide highlight hint hire
    hit hitch hoard hold hover hum hunt hurl hurry hurt identify ignore illustrate imagine impress improve improvise
    incline include increase indulge infer inform inherit initiate innovate inquire insist inspect inspire instruct
    integrate intend interpret interrupt intervene intimidate introduce invent investigate invite involve iron
    irritate jog join jot juggle keep kindle know lack lament land lash last launch lead lean leap learn leave lend
    let lie lighten like listen live liven loathe loosen lose lower lure maintain make manage marvel mean meander
    measure meddle meditate meet melt memorise memorize mend mention mentor mimic mind minimise minimize misplace
    miss mistrust moan mobilise mock modify mold monitor motivate mould mourn muddle multitask mumble murmur mutter
    nag navigate need neglect negotiate nibble nod notice nourish nudge nurture obey observe obsess occupy omit open
    operate oppose orchestrate organise organize outline overcome overcompensate overdo overestimate overhear
    overlook overreact oversee overshare overstate overthink overwhelm owe own pace pack pamper panic paraphrase
    participate pay peer perceive perform persuade pester philosophise pick pinpoint pity pivot plead please plough
    plow plunge polish ponder possess postpone pounce pour pout practise pray preach predict prefer prepare preserve
    pretend prick prioritise prioritize proceed procrastinate produce profess pronounce proofread propose prosper
    protect prove provide provoke prune publish pull punctuate punish purchase pursue push put quarrel quilt quit
    quote radiate ramble rant rave reach react read realise realize rearrange reassure rebel rebuild recall receive
    recharge recite reckon recognise recognize recoil recommend reconcile reconsider recount recover recycle
    redirect reduce refer referee refine reflect refuse regard regret rehearse reject relate relax release
    relinquish relish rely remain remark remember remind render renovate repair repeat rephrase replace replay reply
    represent reread rescue resemble resent reserve resign resist resolve respond restore restrain retain retell
    retire retort retreat return reuse reveal revel revise revisit rework rise roam roast row rub ruin ruminate
    rummage rush sabotage save savor savour say scan scare scatter scoff scold scowl scrawl scrub scrutinise
    scrutinize see seek seem seethe seize select sell send sense separate serve settle sew shake shed shelter shine
    shiver shout shove showcase shrink shrug shut sing sip sit situate skate ski skim skip slam sleepwalk slow smell
    smirk smoke smooth snap sneak sneer sneeze snore snort soften solicit solve soothe spark speak specialise
    specialize speculate spend spin splash spoil spread sprinkle squabble squeeze squint squirm stammer stand stare
    start startle stash state steady steal steer stick stir stitch stockpile stream strengthen stretch strike strip
    strive struggle strum stutter submit succeed succumb suffer suggest sulk supervise supplement support suppose
    surf surpass surround survive suspect suspend sustain swallow swap sway swear sweat sweep swell swing switch
    tackle take tame tap teach tease tell tempt tend think threaten thrift thrive throw tidy tinker tiptoe tire
    tolerate torment toss tow trace transcribe transform translate trap treasure trigger trim triumph trudge try tut
    twist underestimate undermine understand undertake undo unearth unite unlock unpack unwind update uphold upset
    urge utilise utter vanish veer vent venture verify vet vote wager wake wallow wander want warm warn waste wave
    wear weave weep weigh welcome whine whinge widen wield win wipe wish withdraw withhold withstand wonder woo
    wrestle write yawn yell yield zigzag"""
)
# Verbs that are as often adjectives.
_ADJECTIVES = _words("open smooth clean calm correct complete lower warm tidy close welcome mean clear free")
_ACTIONS = _VERBS - _ADJECTIVES
# After these a plural is more likely to be a thing than a verb.
_TAKES_NOUNS = _words(
    """be are have love like enjoy prefer hate dislike want need collect dread fear value offer share include avoid
    favour favor"""
)
_SURE_OBJECTS = _words(
    """a an the her his their its my our your it them him me us you herself himself themselves themself everyone
    everybody anyone anybody people anything everything nothing something someone somebody others each every no any
    whoever whatever what how why whether nobody"""
)
_NOT_VERBS = _words(
    """always sometimes perhaps besides nowadays afterwards as his hers its ours theirs yours others this thus yes less
    unless plus towards across is was has does nevertheless nonetheless upstairs downstairs indoors outdoors
    overseas news series species mathematics physics politics economics athletics gymnastics sports friends people
    themselves ourselves themes thanks means stairs glasses clothes christmas"""
)
_BASE_ED = _words("need feed heed speed succeed proceed exceed bleed breed weed seed shed embed wed")
_PAST = _words(
    """arose ate be became been began being bent bet bit bled blew bore bought bred broke brought built came can't
    caught chose clung couldn't crept dealt did didn't drank drew drove dug dwelt fell felt fled flew forbade
    forgave forgot fought found froze gave got grew had heard held hid hung kept knew laid learnt led left lent lost
    made meant met mustn't overcame overheard overslept paid ran rang rode rose said sang sank sat saw sent
    sewed shone shook shot shouldn't slept slid sold sought spent spoke spun stole stood struck stuck swam swept
    swore taught thought threw told took tore understood went wept withdrew woke won won't wore wouldn't wound wrote"""
)
# Other people whom a "they" may mean.
_HUMANS = _words(
    """people others friends everyone everybody anyone anybody nobody things strangers colleagues coworkers co-workers
    workmates neighbours neighbors guests visitors customers clients children kids parents relatives students pupils
    patients teammates teams companions acquaintances listeners speakers men women boys girls whoever daughters sons
    siblings brothers sisters grandchildren grandparents doctors teachers experts bosses waiters cousins nephews
    nieces callers juniors beginners newcomers officials"""
)
_POSSESSIVES = _words("her his their my our your its whose")
_BE = _words(
    """is was are were 's 're be been being am become becomes became remain remains remained isn't wasn't aren't"""
)
# They end what the person is said to be: "she is a nurse with a sister".
_ENDS_COMPLEMENT = _POSSESSIVES | _words(
    """with has have had who that which to from for by about in on at near under over like than because when while if
    after before since until loves enjoys lives works ; : – —"""
)
_INVERTS = _words(
    """nor neither rarely never seldom so as than what how why where when only not hardly barely scarcely ,"""
)
_ABBREVIATIONS = _words("mr mrs ms dr st prof jr sr e.g i.e etc vs no mx")
_SUBJECTS = _words("she he they i you we it everyone everybody nobody")
_JOINTS = _words("and or but nor yet then ,")
_CLAUSE_WORDS = _words(
    """who whom whose which that when whenever if because until unless what whatever whoever how where wherever why
    than as since though although while before after ; : – — so but"""
)


class _Token(NamedTuple):
    """A word, the apostrophe part of one, or a sign. `word` is lower case; words in quotation marks have none."""

    start: int
    end: int
    word: str
    sentence: int
    first: bool
    """The first word of its sentence."""


_Tokens: TypeAlias = Sequence[_Token]

_TOKEN = re.compile(r"[^\W_]+?n['’]t\b|[^\W_]+(?:[-\u2011][^\W_]+)*|['’][^\W_]+|\S|\n")
# Bounded, so that a text of nothing but quotation marks costs no more than any other.
_QUOTED = re.compile(
    r'"[^"\n]{1,400}"|“[^“”\n]{1,400}”|‘(?:[^‘’\n]|’(?=\w)){1,400}’'
    r"|(?<!\w)'(?=\w)(?:[^'\n]|(?<=\w)'(?=\w)){1,400}'(?!\w)"
)
_NEAR = 40
_APPOSED = 8


def gender_of(text: str) -> Gender | None:
    """The gender of the person whom `text` describes; None where nothing tells it.

    Pronouns that begin a sentence count first, then all pronouns, then nouns for the person ("a widower of eighty").
    "He" after "her husband" is somebody else and counts for nothing. A person's spouse or partner says nothing about
    the person, and neither does a first name.
    """
    return _gender(_read(text))


def with_gender(text: str, gender: Gender) -> str:
    """`text` with the described person's pronouns, nouns and verbs in `gender`.

    Unchanged where no gender can be told, where it is `gender` already, and where the rules do not lead to a text of
    that gender. The result's `gender_of` is `gender`; or None when the text had no pronouns and became neutral.
    """
    tokens = _read(text)
    own = _gender(tokens)
    if own is None or own == gender:
        return text
    edits: dict[int, str] = {}
    for index in _own_pronouns(tokens, own):
        case = _case(tokens, index)
        edits[index] = _FORMS[gender][case]
        if case == "subject" and "neutral" in (own, gender):
            edits |= _agreed(tokens, index, _TO_PLURAL if gender == "neutral" else _TO_SINGULAR)
    edits |= _renamed(tokens, own, gender)
    changed = _edited(text, tokens, edits)
    found = gender_of(changed)
    return changed if found == gender or (found is None and gender == "neutral") else text


def ungendered(text: str) -> str:
    """A key that two texts share when they differ only in the gender of the people in them.

    Pronouns become "they", "their" or "themselves", gendered nouns their neutral partners, and every word loses an
    ending "s" or "e", so that "she's" is "they are" and "loves" is "love". It is for comparing, not for reading;
    other words keep their difference.
    """
    tokens = _read(unicodedata.normalize("NFKC", text).casefold(), quotes=False)
    keys = (key for index in range(len(tokens)) for key in _keys(tokens, index))
    return " ".join(_stem(key) for key in keys)


# Reading


def _read(text: str, *, quotes: bool = True) -> list[_Token]:
    quoted = _QUOTED.finditer(text) if quotes else iter(())
    quote = next(quoted, None)
    tokens: list[_Token] = []
    sentence, fresh = 0, True
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        while quote is not None and quote.end() <= start:
            quote = next(quoted, None)
        inside = quote is not None and quote.start() <= start
        if _ends_sentence(text, match, tokens, quote.end() if inside and quote else None):
            sentence, fresh = sentence + 1, True
        word = match.group().lower().replace("’", "'")
        first = fresh and word[0].isalnum()
        tokens.append(_Token(start, end, '"' if inside else word, sentence, first))
        fresh = fresh and not first
    return [token for token in tokens if token.word != "\n"]


def _ends_sentence(text: str, match: re.Match[str], before: list[_Token], quoted_to: int | None) -> bool:
    sign, end = match.group(), match.end()
    if sign == "\n":
        return True
    if sign not in ".!?…" or text[end : end + 1].isalnum():
        return False
    if quoted_to is not None:
        # `"Why?" she asks` goes on, `"Why?" He shrugs` does not.
        return end == quoted_to - 1 and text[quoted_to : quoted_to + 2].strip().isupper()
    return not (sign == "." and before and before[-1].word in _ABBREVIATIONS)


def _word(tokens: _Tokens, index: int, like: int) -> str:
    """The word at `index` if it stands in the sentence of the token `like`, else ""."""
    if 0 <= index < len(tokens) and tokens[index].sentence == tokens[like].sentence:
        return tokens[index].word
    return ""


def _back(tokens: _Tokens, index: int, most: int = _NEAR) -> Iterator[int]:
    """The places before `index` in its sentence, nearest first."""
    for place in range(index - 1, max(-1, index - 1 - most), -1):
        if tokens[place].sentence != tokens[index].sentence:
            return
        yield place


def _counts(tokens: _Tokens, index: int) -> bool:
    """Whether a pronoun stands for somebody; in "he/she" and "his or her" it stands for anybody."""
    pronoun = _PRONOUNS.get(tokens[index].word)
    if pronoun is None or "/" in (_word(tokens, index - 1, index), _word(tokens, index + 1, index)):
        return False
    for step in (-1, 1):
        if _word(tokens, index + step, index) == "or":
            partner = _PRONOUNS.get(_word(tokens, index + 2 * step, index))
            if partner is not None and {partner[0], pronoun[0]} == {"female", "male"}:
                return False
    return True


def _pronouns(tokens: _Tokens) -> Iterator[tuple[int, Gender, Case]]:
    for index in range(len(tokens)):
        if _counts(tokens, index):
            yield index, *_PRONOUNS[tokens[index].word]


# Whose gender it is


class _Votes(NamedTuple):
    subjects: Counter[Gender]
    """Pronouns that begin a sentence."""
    pronouns: Counter[Gender]
    unsure: int
    """Forms of "they" that have other people before them."""


def _gender(tokens: _Tokens) -> Gender | None:
    votes = _votes(tokens)
    by_pronoun = _by_pronoun(votes)
    if by_pronoun in ("female", "male") or votes.subjects["neutral"]:
        return by_pronoun
    # "A woman who collects stamps and labels them."
    nouns = Counter(gender for _, gender in _own_nouns(tokens)) + Counter(g for _, g in _own_titles(tokens))
    if nouns:
        return nouns.most_common(1)[0][0]
    return "neutral" if by_pronoun or votes.unsure else None


def _by_pronoun(votes: _Votes) -> Gender | None:
    subjects, pronouns = votes.subjects, votes.pronouns
    more = max(_SINGULAR, key=lambda g: (subjects[g], pronouns[g], -_order(pronouns, g)))
    if subjects[more]:
        # At equal numbers the first one counts.
        return more if subjects[more] >= subjects["neutral"] and _leads(subjects, more) else "neutral"
    if subjects["neutral"] and pronouns["neutral"] >= pronouns[more]:
        return "neutral"
    if pronouns[more]:
        return more
    return "neutral" if pronouns["neutral"] else None


def _leads(subjects: Counter[Gender], gender: Gender) -> bool:
    return subjects[gender] > subjects["neutral"] or _order(subjects, gender) < _order(subjects, "neutral")


def _order(counter: Counter[Gender], gender: Gender) -> int:
    return list(counter).index(gender) if gender in counter else len(counter)


def _votes(tokens: _Tokens) -> _Votes:
    votes = _Votes(Counter(), Counter(), 0)
    unsure = 0
    others: set[Gender] = set()
    seen: set[Gender] = set()
    own_nouns = {index for index, _ in _own_nouns(tokens)}
    crowd = False
    for index, token in enumerate(tokens):
        if index and token.sentence != tokens[index - 1].sentence:
            seen, crowd = set(), False
        crowd = crowd or token.word in _HUMANS
        noun = _NOUN.get(token.word)
        # Somebody whom the described person has: "her husband", "she has a son". What follows of that gender is his.
        if noun and index not in own_nouns and seen - {noun[0]}:
            others.add(noun[0])
        if not _counts(tokens, index):
            continue
        gender, case = _PRONOUNS[token.word]
        begins = token.first and case == "subject"
        if begins and gender not in others:
            others.clear()
        if gender in others:
            continue
        seen.add(gender)
        if gender == "neutral" and crowd and not begins:
            unsure += 1
            continue
        votes.subjects[gender] += begins
        votes.pronouns[gender] += 1
    return votes._replace(unsure=unsure)


def _own_nouns(tokens: _Tokens) -> Iterator[tuple[int, Gender]]:
    """Gendered nouns that are said of the described person: "she is a single mother of two", "A quiet man who"."""
    described = False
    for index, token in enumerate(tokens):
        word = token.word
        if word in _BE and _has_own_subject(tokens, index):
            described = True
        elif token.first or _ends_complement(tokens, index):
            described = False
        noun = _NOUN.get(word)
        if noun is None or (word in ("male", "female") and not _stands_alone(tokens, index)):
            continue
        if described or _as_noun(tokens, index) or _opens(tokens, index):
            yield index, noun[0]


def _ends_complement(tokens: _Tokens, index: int) -> bool:
    word = tokens[index].word
    if word == "of":
        return _word(tokens, index - 1, index) not in ("kind", "sort", "type")
    verb = _base(word)
    acts = verb in _ACTIONS and (verb != word or word not in _OFTEN_NOUNS)
    return acts or word in _ENDS_COMPLEMENT


def _has_own_subject(tokens: _Tokens, index: int) -> bool:
    """Whether what comes before a form of "be" is the person: a pronoun, or a name at the beginning."""
    place = index - 1
    while _is_adverb(_word(tokens, place, index)) or _word(tokens, place, index) in ("has", "have", "had", "'s", "'ve"):
        place -= 1
    word = _word(tokens, place, index)
    if word in _PRONOUNS:
        return _PRONOUNS[word][1] == "subject"
    if tokens[index].word.startswith("'"):
        return False
    for back in range(place, max(-1, place - 3), -1):
        word = _word(tokens, back, index)
        if word == "." and _word(tokens, back - 1, index) in _TITLES:
            continue
        if not word[:1].isalpha() or word in _NOUN or word in _FUNCTION or word in _POSSESSIVES:
            return False
        if tokens[back].first:
            return True
    return False


def _as_noun(tokens: _Tokens, index: int) -> bool:
    """Whether it is "as a (working) mother"."""
    for back in _back(tokens, index, 4):
        if tokens[back].word in ("a", "an", "the"):
            return _word(tokens, back - 1, index) == "as"
        if tokens[back].word in _FUNCTION:
            return False
    return False


def _opens(tokens: _Tokens, index: int) -> bool:
    """Whether the noun opens the text ("A quiet woman"), or a later sentence about the person ("A father, he")."""
    start = index
    for back in _back(tokens, index, _APPOSED):
        word = tokens[back].word
        if (word in _FUNCTION and word not in ("a", "an", "the", "of")) or word in _POSSESSIVES or word in _PRONOUNS:
            return False
        if not (word[0].isalnum() or word in (",", "'s")):
            break
        start = back
    if not tokens[start].first:
        return False
    if tokens[start].sentence == 0:
        return True
    after = range(index + 1, min(len(tokens), index + 1 + _APPOSED))
    comma = next((place for place in after if _word(tokens, place, index) in (",", "")), len(tokens))
    pronoun = _PRONOUNS.get(_word(tokens, comma + 1, index))
    return _word(tokens, comma, index) == "," and pronoun is not None and pronoun[1] == "subject"


def _stands_alone(tokens: _Tokens, index: int) -> bool:
    following = _word(tokens, index + 1, index)
    return not following[:1].isalnum() or following in _FUNCTION or following.endswith("ing")


def _own_titles(tokens: _Tokens) -> Iterator[tuple[int, Gender]]:
    """Titles such as "Mr" where the text opens with one, and again wherever the same name follows."""
    if not tokens or tokens[0].word not in _TITLES:
        return
    opening = _surname(tokens, 0)
    for index, token in enumerate(tokens):
        if token.word in _TITLES and _surname(tokens, index) == opening:
            yield index, _TITLES[token.word]


def _surname(tokens: _Tokens, index: int) -> str:
    after = _word(tokens, index + 1, index)
    return _word(tokens, index + 2, index) if after == "." else after


# Which forms are the person's


def _own_pronouns(tokens: _Tokens, own: Gender) -> Iterator[int]:
    for index, gender, case in _pronouns(tokens):
        if gender == own and (own != "neutral" or _own_they(tokens, index, case)):
            yield index


def _own_they(tokens: _Tokens, index: int, case: Case) -> bool:
    """Whether a form of "they" in a text about one means that person, and not the people or things just named."""
    if tokens[index].first:
        return True
    subject, crowd = _antecedents(tokens, index)
    if subject is None:
        # "People tell them their secrets."
        return not (case == "dependent" and crowd is not None and _word(tokens, index - 1, index) == "them")
    if case == "object":
        return _may_be_object(tokens, subject, index)
    if crowd is None or any(_parts(tokens, place) for place in range(crowd, index)):
        return True
    before = _word(tokens, index - 1, index)
    if case == "subject":
        return before in _words(", and but so yet or")
    # "They show others their photos", "they tell people about their day", "they make friends laugh with their puns".
    between = {tokens[place].word for place in range(crowd + 1, index)}
    near = between <= _FUNCTION or before == "with" or _word(tokens, index + 1, index) == "own"
    return near and _word(tokens, crowd - 1, index) not in _HELPS


def _antecedents(tokens: _Tokens, index: int) -> tuple[int | None, int | None]:
    """The last "they" before `index` in its sentence, and the last word for other people after that."""
    crowd = None
    for back in _back(tokens, index):
        if tokens[back].word == "they":
            return back, crowd
        if crowd is None and tokens[back].word in _HUMANS:
            crowd = back
    return None, crowd


_HELPS = _words("help helps helping support supporting assist assisting remind reminding let letting")


def _parts(tokens: _Tokens, place: int) -> bool:
    """Whether a sentence makes a new start here."""
    new = tokens[place].word == "," and _word(tokens, place + 1, place) in ("and", "but", "so", "yet")
    return new or tokens[place].word in (";", ":", "—", "–")


def _may_be_object(tokens: _Tokens, subject: int, index: int) -> bool:
    """Whether "them" can be the "they" before it: as object of its own verb the person would be "themselves"."""
    if _word(tokens, index - 1, index) in _words("around behind beside near beneath before after"):
        return True
    for place in range(subject + 1, index):
        word, after = tokens[place].word, _word(tokens, place + 1, index)
        if word in _SUBJECTS and after not in ("and", "or"):
            return True
        if word in _CLAUSE_WORDS and not after.endswith("ing") and after not in _words("and but or"):
            return True
        if word in _HUMANS and index - place > 1 and after not in _words(", and but or"):
            return True
    return _word(tokens, index - 1, index) == "with" and any(
        tokens[place].word in _words("carry bring take keep have") for place in range(subject + 1, index - 2)
    )


def _case(tokens: _Tokens, index: int) -> Case:
    word = tokens[index].word
    if word == "her":
        return "dependent" if _possesses(tokens, index) else "object"
    if word == "his":
        following = _next_word(tokens, index)
        further = _next_word(tokens, index + 1)
        # "A friend of his called": a past form that no thing follows.
        if (
            _word(tokens, index - 1, index) == "of"
            and following.endswith("ed")
            and (not further or further in _FUNCTION)
        ):
            return "independent"
        alone = not following or (following in _FUNCTION and following not in _words("no any some another every each"))
        return "independent" if alone else "dependent"
    return _PRONOUNS[word][1]


def _next_word(tokens: _Tokens, index: int) -> str:
    """The word that follows, through an opening quotation mark; "" where the sentence or a sign comes first."""
    following = _word(tokens, index + 1, index)
    return following if following[:1].isalnum() or following == '"' else ""


def _adverbial(word: str) -> bool:
    return word.endswith("ly") and word not in _LY_ADJECTIVES and word not in _LY_VERBS


_CAUSES = _words("make makes made making let lets letting help helps helped helping")
_PERCEIVES = _words(
    """see sees saw hear hears heard watch watches find finds found catch catches caught keep keeps kept leave leaves
    left stop stops stopped get gets got feel feels notice notices"""
)
_THINKS = _words("drive drives drove call calls called consider considers think thinks")
_MOVES = _words(
    """call calls called ring rings pay pays write writes text texts bring brings take takes drive drives walk walks
    send sends hold holds want wants see sees follow follows let lets pull pulls push pushes knock set sets"""
)
_GIVES = _words(
    """give gives gave giving tell tells told telling send sends sent show shows showed offer offers offered cost costs
    owe owes bring brings brought pay pays paid ask asks asked teach teaches taught lend lends buy buys bought save
    saves earn earns win wins grant grants call calls called hand hands feed feeds wish wishes do does leave leaves"""
)
_GIVEN = _words(
    """things time energy trouble money names secrets advice peace joy strength space room comfort pleasure hope
    courage confidence questions compliments credit stories jokes news presents gifts flowers directions pause
    thanks good bad new great little more less lots plenty pocket food lies strange favours favors sleep goosebumps
    purpose friends endless respect attention trust relief satisfaction stamps"""
)
_DONE = _words(
    """laugh cry smile think feel wait go know talk speak finish be do look seem want sleep believe forget blush relax
    come leave get see hear sound work play worry wonder shine grow unwind focus understand reach win decide fall
    stop try explain rise say stand stay sit eat keep move lose breathe freeze bristle snort angry happy sad nervous
    anxious uneasy uncomfortable tired proud calm furious late early popular hard unhappy stronger weaker restless
    sick mad impatient awake loud slower louder quieter worse jump rude ill shy bored dizzy sleepy hungry thirsty
    cautious"""
)
_SIDES = _words(
    """back home inside outside right wrong down past most more less better best well last next first early late"""
)


def _possesses(tokens: _Tokens, index: int) -> bool:
    """Whether "her" is followed by what she has ("her cat") and is not itself what is seen or given ("sees her")."""
    following, further = _next_word(tokens, index), _next_word(tokens, index + 1)
    once = following == "one" and further in ("day", "morning", "evening", "night")
    if not following or following in _FUNCTION or once:
        return False
    if following in ("own", '"'):
        return True
    before = _word(tokens, index - 1, index)
    closed = not further or further in _FUNCTION
    if following in _SIDES:
        return not (closed and _displaces(before, following, further))
    if _is_adverb(following):
        return not closed
    # "She tells her things" would be "herself", so what she tells is hers.
    if before in _GIVES and following in _GIVEN:
        return _is_subject_of(tokens, index - 1)
    return not (_is_made(before, following, closed) or _acts(before, following))


def _is_made(before: str, following: str, closed: bool) -> bool:
    """What somebody makes her: "makes her laugh", "hears her singing", "leaves her unruffled"."""
    if before in _CAUSES and following in _DONE:
        return True
    if before in _PERCEIVES and following.endswith("ing"):
        return following not in _words("living feelings evening")
    if before not in _CAUSES | _PERCEIVES | _THINKS or not closed:
        return False
    participle = following.endswith("ed") and following not in _words("bed seed feed need breed shed")
    return participle or following in _DONE or following.endswith(("ous", "ful", "able", "ible", "less"))


def _acts(before: str, following: str) -> bool:
    """Whether the next word is a verb after a phrase that ends with her: "an answer out of her takes time"."""
    if before in ("around", "near", "beside") and following in _DONE:
        return True
    preposition = before in _FUNCTION and before not in ("and", "or", "but", "like")
    return preposition and _is_third(following) and _base(following) in _VERBS and _base(following) not in _OFTEN_NOUNS


def _displaces(before: str, following: str, further: str) -> bool:
    if following in ("back", "home", "inside", "outside", "down"):
        return before in _MOVES and further not in _words("is was and")
    return following not in ("past", "best", "right", "last", "next", "first") or before in _words("prove proves puts")


def _is_subject_of(tokens: _Tokens, verb: int) -> bool:
    """Whether "she" stands right before the verb, adverbs aside."""
    place = verb - 1
    while _is_adverb(_word(tokens, place, verb)):
        place -= 1
    pronoun = _PRONOUNS.get(_word(tokens, place, verb))
    return pronoun is not None and pronoun[1] == "subject"


# Nouns


def _renamed(tokens: _Tokens, own: Gender, gender: Gender) -> dict[int, str]:
    edits: dict[int, str] = {}
    # "They are a mother of two": a neutral person's nouns may have any gender.
    replaced = {own} if own != "neutral" else {"female", "male"} - {gender}
    for index, of in _own_titles(tokens):
        if of in replaced:
            edits[index] = _TITLE[gender]
    for index, of in _own_nouns(tokens):
        if of not in replaced:
            continue
        edits[index] = _NOUN[tokens[index].word][1][gender]
        if _word(tokens, index - 1, index) in ("a", "an"):
            edits[index - 1] = "an" if edits[index][0] in "aeiou" else "a"
    return edits


# Verbs


class _Direction(NamedTuple):
    """How verbs change with their subject, from "she" to "they" or back."""

    plural: bool
    auxiliary: dict[str, str]


_TO_PLURAL = _Direction(True, _AUXILIARY)
_TO_SINGULAR = _Direction(False, _AUXILIARY_BACK)


def _agreed(tokens: _Tokens, subject: int, to: _Direction) -> dict[int, str]:
    """What changes with the subject pronoun at `subject`: its verb, and the verbs joined to that one."""
    following = _word(tokens, subject + 1, subject)
    if following in ("and", "or", "nor"):
        return {}
    if following.startswith("'"):
        return _clitic(tokens, subject + 1, to) | _joined(tokens, subject + 2, "be", to)
    inverted = _inverted(tokens, subject, to)
    if inverted:
        return inverted
    place = _past_adverbs(tokens, subject + 1, subject)
    word = _word(tokens, place, subject)
    changed = _inflected(word, to)
    edits = {} if changed is None else {place: changed}
    return edits | _joined(tokens, place + 1, _base(word) if to.plural else word, to)


def _clitic(tokens: _Tokens, index: int, to: _Direction) -> dict[int, str]:
    has = _means_has(tokens, index)
    word = tokens[index].word
    if to.plural and word == "'s":
        return {index: "'ve" if has else "'re"}
    if word in ("'re", "'ve") and not to.plural:
        short = has == (word == "'ve")
        return {index: "'s" if short else (" has" if word == "'ve" else " is")}
    return {}


def _means_has(tokens: _Tokens, index: int) -> bool:
    place = _past_adverbs(tokens, index + 1, index)
    return _word(tokens, place, index) in _AFTER_HAS


def _inverted(tokens: _Tokens, subject: int, to: _Direction) -> dict[int, str]:
    """The verb of "rarely does she speak", "as is she", "doesn't she?"."""
    place = subject - 1
    word = _word(tokens, place, subject)
    if word not in to.auxiliary:
        return {}
    before = _word(tokens, place - 1, subject)
    if not (tokens[place].first or before in _INVERTS or _is_adverb(before)):
        return {}
    verb = _word(tokens, _past_adverbs(tokens, subject + 1, subject), subject)
    return {} if verb in to.auxiliary else {place: to.auxiliary[word]}


def _past_adverbs(tokens: _Tokens, place: int, like: int, *, parentheses: bool = True) -> int:
    """The first place from `place` on that is neither an adverb nor a parenthesis."""
    limit = place + _NEAR
    while place < limit:
        word = _word(tokens, place, like)
        if (word, _word(tokens, place + 1, like)) in _PHRASES:
            place += 2
        elif _is_adverb(word):
            place += 1
        elif parentheses and word in (",", "—", "–", "("):
            ends = range(place + 1, place + 1 + _APPOSED)
            closing = next((end for end in ends if _word(tokens, end, like) in (",", "—", "–", ")")), None)
            if closing is None:
                return place
            place = closing + 1
        else:
            return place
    return place


def _is_adverb(word: str) -> bool:
    return word in _ADVERBS or _adverbial(word)


def _inflected(word: str, to: _Direction) -> str | None:
    if word in to.auxiliary:
        return to.auxiliary[word]
    if not word.isalpha() or not word.isascii():
        return None
    if to.plural:
        return _base(word) if _is_third(word) else None
    return _third(word) if _is_present(word) else None


def _is_third(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 2 and word not in _NOT_VERBS


def _is_present(word: str) -> bool:
    if (
        word in _FUNCTION
        or word in _SURE_OBJECTS
        or word in _MODALS
        or word in _PAST
        or word in _NOT_VERBS
        or word in _PRONOUNS
    ):
        return word in ("do", "have", "like")
    if word.endswith("s") and not word.endswith(("ss", "us")):
        return False
    if word.endswith("ing") and word not in _words("bring sing ring cling fling sling spring string swing sting wring"):
        return False
    return not word.endswith("ed") or word in _BASE_ED


_THIRDS = {"have": "has", "be": "is", "quiz": "quizzes", "waltz": "waltzes", "ski": "skis", "focus": "focuses"}
_BASES = {third: base for base, third in _THIRDS.items()} | {
    "aches": "ache",
    "dies": "die",
    "lies": "lie",
    "ties": "tie",
    "vies": "vie",
    "tiptoes": "tiptoe",
    "canoes": "canoe",
    "biases": "bias",
    "lays": "lay",
}


def _third(base: str) -> str:
    """The third person: "loves" of "love", "tries" of "try", "goes" of "go"."""
    if base in _THIRDS:
        return _THIRDS[base]
    if base.endswith("y") and base[-2:-1] not in "aeiou":
        return base[:-1] + "ies"
    sibilant = base.endswith(("s", "x", "z", "ch", "sh", "o")) and not base.endswith("oo")
    return base + ("es" if sibilant else "s")


def _base(third: str) -> str:
    """The verb of a third person: "love" of "loves"; a word of another form comes back as it is."""
    if third in _BASES:
        return _BASES[third]
    if third in _AUXILIARY:
        return "be" if third in ("is", "was") else _AUXILIARY[third]
    if third.endswith("ies") and len(third) > 3:
        return third[:-3] + "y"
    if third.endswith(("sses", "xes", "zzes", "ches", "shes", "oes")):
        return third[:-2]
    return third[:-1] if third.endswith("s") and not third.endswith("ss") else third


def _joined(tokens: _Tokens, place: int, verb: str, to: _Direction) -> dict[int, str]:
    """The changes of the verbs joined to `verb`, from `place` to the end of its sentence or the next subject."""
    edits: dict[int, str] = {}
    walk = _Walk(tokens, to, at=place - 1, verb=verb)
    for index in range(place - 1, len(tokens)):
        if tokens[index].sentence != tokens[place - 1].sentence or (index >= place and walk.stops(index)):
            break
        walk.passes(index)
        if tokens[index].word not in _JOINTS:
            continue
        candidate = _past_adverbs(tokens, index + 1, index, parentheses=tokens[index].word != ",")
        word = _word(tokens, candidate, index)
        changed = _inflected(word, to)
        if changed is not None and walk.continues(index, candidate):
            edits[candidate] = changed
            comma = tokens[index].word == ","
            walk = _Walk(tokens, to, at=candidate, verb=_base(word) if to.plural else word, series=comma)
    return edits


_PARTICLES = _words("through up out away off down over")
_FINITE = _words("are were aren't weren't is was isn't wasn't")


@dataclass
class _Walk:
    """What has been passed since the last verb of a subject, which decides whether the next joined word is its verb."""

    tokens: _Tokens
    to: _Direction
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
        return word in _SUBJECTS and _word(self.tokens, index - 1, index) in _words(", and or but so yet")

    def passes(self, index: int) -> None:
        """Take note of what makes the verbs that follow somebody else's, or infinitives."""
        word = self.tokens[index].word
        refuses = word in ("don't", "doesn't", "didn't") or (word == "not" and self.verb == "do")
        if word in _MODALS or refuses or (word == "to" and self._infinite(index)):
            self.infinitive = True
        if word in ("who", "which", "that"):
            before = _word(self.tokens, index - 1, index)
            after = _word(self.tokens, _past_adverbs(self.tokens, index + 1, index), index)
            asked = _base(before) in _VERBS and before != "people"
            known = after in self.to.auxiliary or (_base(after) if self.to.plural else after) in _VERBS
            self.relative = not asked and known and _inflected(after, self.to) is not None

    def _infinite(self, index: int) -> bool:
        after = _word(self.tokens, index + 1, index)
        return after not in _PRONOUNS and (after in _VERBS or after in ("be", "have", "do") or _is_adverb(after))

    def continues(self, joint: int, candidate: int) -> bool:
        """Whether the word at `candidate`, after the "and" or comma at `joint`, is a verb of the same subject."""
        sign, before = self.tokens[joint].word, _word(self.tokens, joint - 1, joint)
        word = self.tokens[candidate].word
        if not self._is_verb(joint, candidate, _base(word) if self.to.plural else word):
            return False
        if self.relative and not self.series and (sign == "," or before != ","):
            return False
        if self.to.plural or not self.infinitive or sign in ("but", "yet") or word in _FINITE or candidate > joint + 1:
            return True
        if sign == ",":
            self.listed = True
            return False
        # "They find something in it to be glad about and say so."
        return (before == "," and not self.listed) or before in ("about", "with", "for", "at", "on")

    def _is_verb(self, joint: int, candidate: int, base: str) -> bool:
        after = _word(self.tokens, candidate + 1, candidate)
        sure = after in _SURE_OBJECTS
        if self.tokens[candidate].word in self.to.auxiliary:
            return True
        # "Listens and snores": right after a verb another one follows, whether it is known or not.
        if joint - 1 == self.at and (self.to.plural or self.tokens[joint].word != ","):
            return True
        if base not in _VERBS:
            placed = _word(self.tokens, joint - 1, joint) in _PARTICLES
            known = sure or placed or (joint - 2 == self.at and self.to.plural)
            return (sure and candidate > joint + 1) or (self.to.plural and known and not self._after_things(joint))
        if base in _ADJECTIVES and not self.to.plural:
            return sure or after == "up"
        return sure or base not in _OFTEN_NOUNS or self._is_no_noun(joint, candidate, after)

    def _is_no_noun(self, joint: int, candidate: int, after: str) -> bool:
        """Whether the neighbours of a word such as "walks" make it a verb."""
        if candidate > joint + 1 or _is_adverb(after) or after == "of":
            return after != "of"
        if after.endswith("ing") or (after == "to" and _word(self.tokens, candidate + 2, candidate) in _VERBS):
            return True
        comma = _word(self.tokens, joint - 1, joint) == ","
        # "They have a dog and work at night": what has an article is seldom joined to a bare noun.
        bare = _word(self.tokens, self.at + 1, self.at) not in ("a", "an", "the", "no", "one", "two")
        of_things = self._after_things(joint) or (self.verb in _TAKES_NOUNS and bare and not comma)
        if after[:1].isalnum() and after not in _FUNCTION:
            # Two nouns in a row are rarer than a verb and its object: "walks dogs", but "dance classes".
            return self.to.plural or not of_things
        closes = not after[:1].isalnum() or after in _JOINTS
        last = joint - 2 if comma else joint - 1
        return not of_things and (not closes or last == self.at or _is_adverb(_word(self.tokens, last, joint)))

    def _after_things(self, joint: int) -> bool:
        """Whether things are being listed: "hikes and walks", "reading and walks"."""
        last = joint - 2 if _word(self.tokens, joint - 1, joint) == "," else joint - 1
        before = _word(self.tokens, last, joint)
        return self.to.plural and last != self.at and (_is_third(before) or before.endswith("ing"))


# The key


_KEYS = {
    "is": "be", "are": "be", "am": "be", "'re": "be", "'m": "be",
    "was": "was", "were": "was",
    "has": "have", "have": "have", "'ve": "have",
    "does": "do", "do": "do",
    "'ll": "will", "an": "a", "cannot": "can not", "can't": "can not", "won't": "will not",
}  # fmt: skip
_PART = re.compile(r"[^\W_]+")
_IS_SHORT = _words("she he it that there who what here where how everything everybody everyone nobody")


def _keys(tokens: _Tokens, index: int) -> list[str]:
    """What the key has for one token, before stemming."""
    word = tokens[index].word
    if word in _PRONOUNS:
        case = _PRONOUNS[word][1]
        return ["they" if case == "subject" else "themselves" if case == "reflexive" else "their"]
    if word == "'s":
        short = _word(tokens, index - 1, index) in _IS_SHORT
        return ["have" if _means_has(tokens, index) else "be"] if short else []
    if word in _KEYS:
        return _KEYS[word].split()
    if word.endswith("n't"):
        return [_KEYS.get(word[:-3], word[:-3]), "not"]
    if word in _TITLES:
        return ["mx"]
    return _PART.findall(_neutral_noun(word))


def _neutral_noun(word: str) -> str:
    if word in _PLURAL_NOUNS:
        return _PLURAL_NOUNS[word]
    noun = _NOUN.get(word) or (_NOUN.get(word[:-1]) if word.endswith("s") else None)
    return word if noun is None else noun[1]["neutral"]


def _stem(word: str) -> str:
    """The word without what sets "loves" apart from "love", "tries" from "try" and "goes" from "go"."""
    stem = word
    if stem.endswith("s") and not stem.endswith(("ss", "us")):
        stem = stem[:-1]
    stem = stem.removesuffix("e")
    if stem.endswith("zz"):
        stem = stem[:-1]
    return stem[:-1] + "y" if stem.endswith("i") else stem or word


# Writing


def _edited(text: str, tokens: _Tokens, edits: dict[int, str]) -> str:
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
