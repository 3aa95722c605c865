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

The way a text goes: `reading` makes it words, `tell` finds the gender, `reference`, `case`, `person`, `agreement` and
`joined` what is the person's and changes, and `rewrite` writes it; `key` is for comparing. The words themselves are
in the TOML files.
"""

from interalign.personas.gender.key import ungendered
from interalign.personas.gender.rewrite import with_gender
from interalign.personas.gender.tell import gender_of
from interalign.personas.gender.words import GENDERS, Gender

__all__ = ["GENDERS", "Gender", "gender_of", "ungendered", "with_gender"]
