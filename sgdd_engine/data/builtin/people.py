"""The people and animals of the built-in corpus: how they are named, and the pronouns for them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from sgdd_engine.data.builtin.jobs import ANIMAL_KINDS
from sgdd_engine.data.builtin.morphology import possessive

Random = Callable[[], float]
T = TypeVar("T")

WOMEN = """Anna, Clara, Emma, Nora, Lucy, Alice, Maria, Julia, Sarah, Helen, Rosa, Ruth, Eva, Laura, Sofia,
Grace, Irene, Olivia, Hannah, Martha, Lena, Vera, Mina, Amira, Leila, Yuki, Priya, Ingrid,
Paula, Nina, Mrs Brown, Miss Green, Mrs Cole, Aunt Molly, Doctor Young, Mrs Lane"""
MEN = """Tom, Peter, Paul, Daniel, Jack, Henry, George, Martin, David, Simon, Oscar, Felix, Leo, Max,
Adam, Ben, Robert, Victor, Hugo, Samuel, Walter, Edward, Omar, Hassan, Kenji, Ravi, Marco, Erik,
Anton, Joseph, Mr Brown, Mr Hill, Mr Parker, Uncle Fred, Doctor Stone, Captain Reed"""
KIN_WOMEN = """mother, sister, aunt, grandmother, daughter, friend, neighbour, teacher, cousin, little sister,
best friend"""
KIN_MEN = """father, brother, uncle, grandfather, son, friend, neighbour, teacher, cousin, little brother,
best friend"""
KIN_GROUPS = """parents, friends, neighbours, cousins, brothers, sisters, children, grandparents"""
GROUPS = """the children, the boys, the girls, the neighbours, the guests, the students, the farmers, the
twins, two boys, three girls, the two brothers, the sisters, some children, a few students, the
visitors, the tourists, the villagers, the workers, both girls, my parents, our neighbours, all
the children, the old friends"""
# A word after `:` names the work whose actions the person can do (see `jobs`).
ROLES = """baker:baker, farmer:farmer, teacher:teacher, doctor:doctor, nurse:doctor, painter:painter,
artist:painter, gardener:gardener, sailor:sailor, cook:cook, tailor:tailor, carpenter:carpenter,
shopkeeper:shopkeeper, librarian:librarian, musician:musician, violinist:musician, taxi
driver:driver, bus driver:driver, pilot:pilot, singer:singer, mechanic:mechanic,
shepherd:shepherd, waiter:waiter, police officer:officer, detective:officer, writer:writer,
poet:writer, student:student, scientist:scientist, professor:scientist, firefighter:firefighter,
photographer:photographer, dentist:dentist, postman:postman, builder:builder, judge:judge,
dancer:dancer, actor:actor"""
FOLK_WOMEN = (
    """old woman, girl, young woman, stranger, guest, traveller, lady, tourist, little girl, witness"""
)
FOLK_MEN = """old man, boy, young man, stranger, guest, traveller, gentleman, tourist, little boy, soldier"""
ROLE_ADJECTIVES = (
    "young, old, kind, clever, tired, friendly, busy, tall, patient, famous, honest, cheerful, quiet, strict"
)
MEN_ONLY = frozenset({"postman", "waiter"})


class Pronouns(NamedTuple):
    """How somebody is referred to again."""

    he: str
    him: str
    his: str
    himself: str
    singular: bool  # takes the verb forms of the third person singular


HE = Pronouns("he", "him", "his", "himself", True)
SHE = Pronouns("she", "her", "her", "herself", True)
IT = Pronouns("it", "it", "its", "itself", True)
THEY = Pronouns("they", "them", "their", "themselves", False)
ME = Pronouns("I", "me", "my", "myself", False)
WE = Pronouns("we", "us", "our", "ourselves", False)
YOU = Pronouns("you", "you", "your", "yourself", False)
SPEAKERS = (ME, WE)


class Person:
    """Somebody in a sentence: a full name for the first mention, pronouns for the next.

    Attributes:
        name: The full noun phrase ("Anna", "an old farmer", "her mother"), as a subject.
        again: The noun phrase when it is said once more ("the old farmer").
        pronouns: The pronouns that refer to this person.
        job: The work whose actions this person can do, or "".
        mentioned: Whether the sentence has named this person yet.
    """

    __slots__ = ("again", "job", "mentioned", "name", "pronouns")

    def __init__(self, name: str, pronouns: Pronouns, again: str = "", job: str = "") -> None:
        self.name = name
        self.again = again or name
        self.pronouns = pronouns
        self.job = job
        self.mentioned = False

    @property
    def object(self) -> str:
        """The full noun phrase as an object: "him" for a person who is only a pronoun."""
        return self.pronouns.him if self.name == self.pronouns.he else self.name

    @property
    def owner(self) -> str:
        """The possessive of the noun phrase: "Anna's", "the farmers'", "her"."""
        if self.name == self.pronouns.he:
            return self.pronouns.his
        return possessive(self.again if self.mentioned else self.name)


def words(text: str) -> tuple[str, ...]:
    """Split a list of the lexicon at its commas."""
    return tuple(" ".join(text.split()).split(", "))


NAMES = {SHE: words(WOMEN), HE: words(MEN)}
KIN = {SHE: words(KIN_WOMEN), HE: words(KIN_MEN), THEY: words(KIN_GROUPS)}
FOLK = {SHE: words(FOLK_WOMEN), HE: words(FOLK_MEN)}
JOBS = tuple(entry.split(":") for entry in words(ROLES))
ANIMALS = tuple(
    (kind, name)
    for kind, _, names in (line.partition(": ") for line in ANIMAL_KINDS.strip().splitlines())
    for name in names.split(", ")
)
ALL_GROUPS = words(GROUPS)
ADJECTIVES = words(ROLE_ADJECTIVES)
ALONE = (SHE, HE, SHE, HE, ME, ME, WE, THEY)
OTHERS = (SHE, HE, THEY, ME, WE)


def pick(random: Random, options: Sequence[T]) -> T:
    """Return one of `options`; the only draw there is, so that a seed means the same everywhere."""
    return options[int(random() * len(options))]


def _sex(random: Random) -> Pronouns:
    return SHE if random() < 0.5 else HE


def named(random: Random) -> Person:
    """Return a person with a name of their own."""
    sex = _sex(random)
    return Person(pick(random, NAMES[sex]), sex)


def worker(random: Random) -> Person:
    """Return a person known by a trade."""
    role, job = pick(random, JOBS)
    return _described(random, role, HE if role in MEN_ONLY else _sex(random), job)


def folk(random: Random) -> Person:
    """Return a person known by age or standing, or now and then by a trade."""
    if random() < 0.5:
        return worker(random)
    sex = _sex(random)
    return _described(random, pick(random, FOLK[sex]), sex, "", plain=True)


def _described(random: Random, role: str, sex: Pronouns, job: str, plain: bool = False) -> Person:
    if not plain and random() < 0.3:
        role = f"{pick(random, ADJECTIVES)} {role}"
    return Person(("@ " if random() < 0.35 else "the ") + role, sex, f"the {role}", job)


def kin(random: Random, of: Pronouns | None = None) -> Person:
    """Return a relative or friend of somebody, or of a person named here and now."""
    draw = random()
    pronouns = SHE if draw < 0.42 else HE if draw < 0.84 else THEY
    owner = of.his if of else "my" if random() < 0.4 else possessive(named(random).name)
    return Person(f"{owner} {pick(random, KIN[pronouns])}", pronouns)


def group(random: Random) -> Person:
    """Return several people."""
    if random() < 0.3:
        one, two = pick(random, NAMES[SHE]), pick(random, NAMES[HE])
        return Person(f"{one} and {two}" if random() < 0.5 else f"{two} and {one}", THEY)
    return Person(pick(random, ALL_GROUPS), THEY)


def friend(random: Random, of: Pronouns) -> Person:
    """Return one person who is not just a pronoun, perhaps a relative of somebody."""
    if random() < 0.5:
        return named(random) if random() < 0.6 else folk(random)
    relative = kin(random, of)
    return relative if relative.pronouns.singular else named(random)


def unnamed(random: Random, options: Sequence[Pronouns] = ALONE) -> Person:
    """Return somebody who is only a pronoun."""
    pronouns = pick(random, options)
    return Person(pronouns.he, pronouns)


def person(random: Random) -> Person:
    """Return anybody who can be the first person of a sentence."""
    draw = random()
    if draw < 0.36:
        return named(random)
    if draw < 0.58:
        return folk(random)
    if draw < 0.78:
        return unnamed(random)
    return group(random) if draw < 0.87 else kin(random)


def other(random: Random, subject: Pronouns) -> Person:
    """Return somebody else than the subject, fit to be an object beside it."""
    draw = random()
    if draw < 0.36 and subject is not IT:
        return kin(random, subject)
    if draw < 0.62:
        return named(random)
    if draw < 0.82:
        return folk(random)
    if draw < 0.9:
        return group(random)
    return unnamed(random, OTHERS)


def animal(random: Random) -> Person:
    """Return an animal, whose kind decides what it can do."""
    kind, name = pick(random, ANIMALS)
    draw = random()
    if draw < 0.2 and kind in ("dog", "cat", "horse"):
        return Person(f"{named(random).owner} {name}", IT, job=kind)
    return Person(("@ " if draw < 0.5 else "the ") + name, IT, f"the {name}", kind)
