"""English word forms, in British spelling: verbs, plurals, possessives, articles and agreement."""

from typing import NamedTuple

_VOWELS = "aeiou"
_SIBILANTS = ("s", "sh", "ch", "x", "z")
# The article follows the sound, not the letter.
_SILENT_CONSONANT = ("hour", "honest")
_VOWEL_SAID_AS_CONSONANT = ("useful", "uniform", "one", "European", "university")


class Verb(NamedTuple):
    """The five forms of a verb: write, writes, wrote, written, writing."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


class Pronouns(NamedTuple):
    """The forms of a personal pronoun, and whether it takes verbs in the third person singular."""

    he: str
    him: str
    his: str
    himself: str
    singular: bool


BE = Verb("be", "is", "was", "been", "being")
HAVE = Verb("have", "has", "had", "had", "having")
DO = Verb("do", "does", "did", "done", "doing")

PRONOUNS = {
    "he": Pronouns("he", "him", "his", "himself", True),
    "she": Pronouns("she", "her", "her", "herself", True),
    "it": Pronouns("it", "it", "its", "itself", True),
    "they": Pronouns("they", "them", "their", "themselves", False),
    "I": Pronouns("I", "me", "my", "myself", False),
    "we": Pronouns("we", "us", "our", "ourselves", False),
    "you": Pronouns("you", "you", "your", "yourself", False),
    # "Someone has lost their key."
    "someone": Pronouns("they", "them", "their", "themselves", True),
}


def verb(base: str, irregular: str = "") -> Verb:
    """Return the five forms of a verb.

    Args:
        base: Its base form.
        irregular: Past, participle and -ing form; those left out follow the rules.
    """
    for auxiliary in (BE, HAVE, DO):
        if base == auxiliary.base:
            return auxiliary
    in_y, doubled = _ends_in_consonant_and_y(base), base + base[-1] * _doubles(base)
    third = base[:-1] + "ies" if in_y else base + ("es" if base.endswith((*_SIBILANTS, "o")) else "s")
    past = base + "d" if base.endswith("e") else base[:-1] + "ied" if in_y else doubled + "ed"
    if base.endswith("ie"):
        ing = base[:-2] + "ying"
    elif base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        ing = base[:-1] + "ing"
    else:
        ing = doubled + "ing"
    given = irregular.split()
    return Verb(base, third, *given, *(past, past, ing)[len(given) :])


def agree(form: Verb, who: Pronouns, present: bool) -> str:
    """Return a verb in the present or simple past, as its subject wants it."""
    if form is BE and not who.singular:
        first = who.he == "I"
        return ("am" if first else "are") if present else ("was" if first else "were")
    return form.past if not present else form.third if who.singular else form.base


def plural(noun: str) -> str:
    """Return the plural of a noun that follows the rules (box, cherry, key)."""
    if _ends_in_consonant_and_y(noun):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(_SIBILANTS) else "s")


def possessive(phrase: str) -> str:
    """Return the possessive of a noun phrase: Anna's, the farmers'."""
    return phrase + ("'" if phrase.endswith("s") else "'s")


def article(word: str) -> str:
    """Return the indefinite article that stands before `word`."""
    word = word.strip('",.!?')
    vowel = word[0].lower() in _VOWELS and word not in _VOWEL_SAID_AS_CONSONANT
    return "an" if vowel or word in _SILENT_CONSONANT else "a"


def finish(text: str) -> str:
    """Turn the output of a template into a sentence.

    Each `@` becomes an indefinite article, chosen by the word after it, and each `^` makes the next letter a capital;
    spaces that empty choices left are dropped, and the first letter is a capital.
    """
    words = text.split()
    if "@" in text:
        for place, word in enumerate(words):
            if word.endswith("@"):
                words[place] = word[:-1] + article(words[place + 1])
    text = " ".join(words).replace(" ,", ",").replace(" .", ".").replace(" ?", "?").replace(" !", "!")
    head, *quoted = text.split("^")
    text = head + "".join([part[0].upper() + part[1:] for part in quoted])
    return text[0].upper() + text[1:]


def _ends_in_consonant_and_y(word: str) -> bool:
    return word.endswith("y") and word[-2] not in _VOWELS


def _doubles(base: str) -> bool:
    """Whether the last consonant doubles before -ed and -ing: in one syllable after a single vowel (stop, quit)."""
    if len(base) < 3 or base[-1] in "aeiouwxy" or base[-2] not in _VOWELS:
        return False
    return not any(letter in _VOWELS for letter in base[:-2].replace("qu", "q"))
