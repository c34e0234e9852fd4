"""English word forms: verbs, plurals, possessives, articles, and the last touch on a finished sentence.

Spelling is British. Only what the lexicon needs is covered: regular rules, and tables for what is irregular.
"""

from typing import NamedTuple

VOWELS = "aeiou"

IRREGULAR_VERBS = """
be was been, become became become, begin began begun, bite bit bitten, blow blew blown, break broke broken,
bring brought brought, build built built, burn burnt burnt, buy bought bought, catch caught caught,
choose chose chosen, climb climbed climbed, come came come, cut cut cut, dig dug dug, do did done,
draw drew drawn, drink drank drunk, drive drove driven, eat ate eaten, fall fell fallen, feed fed fed,
feel felt felt, find found found, fly flew flown, forget forgot forgotten, get got got, give gave given,
go went gone, grow grew grown, hang hung hung, have had had, hear heard heard, hide hid hidden, hit hit hit,
hold held held, hurt hurt hurt, keep kept kept, know knew known, lay laid laid, lead led led,
learn learnt learnt, leave left left, lend lent lent,
let let let, lie lay lain, light lit lit, lose lost lost, make made made,
meet met met, pay paid paid, put put put, read read read, ride rode ridden, ring rang rung, rise rose risen,
run ran run, say said said, see saw seen, sell sold sold, send sent sent, set set set, sew sewed sewn,
shake shook shaken, shine shone shone, show showed shown, shut shut shut, sing sang sung, sit sat sat,
sleep slept slept, speak spoke spoken, spend spent spent, spread spread spread, stand stood stood,
steal stole stolen, sweep swept swept, swim swam swum, take took taken, teach taught taught, tear tore torn,
tell told told, think thought thought, throw threw thrown, wake woke woken, wear wore worn, win won won,
write wrote written, spin spun spun, swing swung swung, understand understood understood
"""
# Verbs of more than one syllable whose last consonant doubles; those of one syllable follow a rule.
DOUBLING = frozenset({"begin", "forget", "travel", "admit", "prefer"})
SPELLED_ING = {"lie": "lying", "tie": "tying", "be": "being"}
SPELLED_THIRD = {"have": "has", "be": "is", "do": "does", "go": "goes"}
# The article follows the sound, not the letter.
SAID_WITH_VOWEL = frozenset({"hour", "honest"})
SAID_WITH_CONSONANT = frozenset({"useful", "uniform", "one", "European", "university"})


class Verb(NamedTuple):
    """The five forms of a verb: write, writes, wrote, written, writing."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


def _doubles(base: str) -> bool:
    """Tell whether the last consonant doubles before -ed and -ing (stop, but not open or play)."""
    if base in DOUBLING:
        return True
    if len(base) < 3 or base[-1] in "aeiouwxy" or base[-2] not in VOWELS:
        return False
    body = base[:-2].replace("qu", "q")
    return not any(letter in VOWELS for letter in body)


def _third(base: str) -> str:
    if base in SPELLED_THIRD:
        return SPELLED_THIRD[base]
    if base.endswith(("s", "sh", "ch", "x", "z")):
        return base + "es"
    if base.endswith("y") and base[-2] not in VOWELS:
        return base[:-1] + "ies"
    return base + "s"


def _ing(base: str) -> str:
    if base in SPELLED_ING:
        return SPELLED_ING[base]
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    return base + base[-1] * _doubles(base) + "ing"


def _ed(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in VOWELS:
        return base[:-1] + "ied"
    return base + base[-1] * _doubles(base) + "ed"


_IRREGULAR = {forms.split()[0]: forms.split()[1:] for forms in IRREGULAR_VERBS.split(",")}


def verb(base: str) -> Verb:
    """Return the five forms of the verb `base`."""
    past, participle = _IRREGULAR.get(base) or [_ed(base)] * 2
    return Verb(base, _third(base), past, participle, _ing(base))


def plural(noun: str) -> str:
    """Return the plural of a noun that follows the rules (box, cherry, key)."""
    if noun.endswith(("s", "sh", "ch", "x", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def possessive(phrase: str) -> str:
    """Return the possessive of a noun phrase: Anna's, the farmers'."""
    return phrase + ("'" if phrase.endswith("s") else "'s")


def article(word: str) -> str:
    """Return the indefinite article that stands before `word`."""
    word = word.strip('",.!?')
    if word in SAID_WITH_CONSONANT:
        return "a"
    return "an" if word[0].lower() in VOWELS or word in SAID_WITH_VOWEL else "a"


def finish(text: str) -> str:
    """Turn what the templates said into a sentence.

    Settles every `@` (an indefinite article, decided by the word after it) and every `^` (the next letter is
    a capital, as at the start of a quotation), drops the spaces that empty choices left, and starts with a
    capital.
    """
    words = text.split()
    if "@" in text:
        for place, word in enumerate(words):
            if word.endswith("@"):
                words[place] = word[:-1] + article(words[place + 1])
    text = " ".join(words).replace(" ,", ",").replace(" .", ".").replace(" ?", "?").replace(" !", "!")
    if "^" in text:
        head, *rest = text.split("^")
        text = head + "".join([part[0].upper() + part[1:] for part in rest])
    return text[0].upper() + text[1:]
