"""The things and places of the built-in corpus, in classes whose members can do and suffer the same.

One class a line: `name: nouns | adjectives`, an indented line going on with the last. `~` after the name
marks what is not counted (bread, water); a word in brackets is the preposition of a place (one is *in* a
kitchen); `leaf/leaves` gives an irregular plural.
"""

from typing import NamedTuple

from sgdd_engine.data.builtin.morphology import plural

CLASSES = """
fruit: apple, pear, orange, banana, peach, plum, lemon, melon, cherry, strawberry | ripe, fresh, big,
  small
vegetable: carrot, potato/potatoes, onion, tomato/tomatoes, cabbage, mushroom, pumpkin, pepper | fresh,
  big, small
baked: cake, pie, sandwich, biscuit, pancake, bun, tart, muffin | fresh, small, large, delicious, warm
dish~: soup, stew, porridge, rice, pasta | hot, warm, delicious, tasty
staple~: bread, cheese, butter, honey, jam, chocolate, ham, salad | fresh, good, delicious
hotdrink~: tea, coffee, cocoa | hot, warm, sweet
colddrink~: milk, water, lemonade, juice | cold, cool, fresh
tiny: key, coin, ring, button, stamp, shell, pencil, pen, ticket, feather, marble, spoon, needle | small,
  old, pretty, tiny
handy: book, umbrella, scarf/scarves, ball, doll, candle, map, photograph, torch, cup, clock, hammer,
  camera | old, new, small, beautiful, strange
gift: book, watch, scarf/scarves, ring, toy, flower, doll, box of chocolates/boxes of chocolates, kite,
  puzzle, lamp, necklace, puppy | beautiful, little, new, special, lovely
container: box, basket, bag, drawer, suitcase, cupboard, backpack, chest | big, old, wooden, empty,
  small, heavy
smallbox: jar, purse, tin, envelope, bowl, pouch | small, old, blue, round, empty
surface(on): table, shelf/shelves, desk, chair, bench, bed, counter, sofa, stool, windowsill | old,
  wooden, long, low, small
seat(on): chair, bench, sofa, stool, bed, armchair | old, wooden, comfortable, low, small
hider(behind): curtain, door, mirror, bookcase, wardrobe, stove, painting, piano | old, big, heavy, white
furniture: table, chair, bed, sofa, desk, lamp, mirror, carpet, bookcase, wardrobe, cupboard, stool |
  old, new, wooden, comfortable, heavy, expensive
coat: coat, hat, scarf/scarves, jacket, sweater, cap, cloak | warm, thick, red, green, brown, grey,
  woollen, new
dress: shirt, dress, skirt, uniform, blouse, suit, apron, costume | white, blue, yellow, clean, elegant,
  new, striped
footwear: boot, shoe, sock, slipper, sandal, glove | old, new, black, brown, muddy, wet
jewel: ring, necklace, crown, bracelet, brooch | golden, silver, precious, sparkling
reading: book, letter, newspaper, story, poem, magazine, diary, fairy tale | long, short, interesting,
  old, funny, strange
note: letter, note, postcard, message, poem, report | long, short, kind, funny, polite, secret
picture: picture, painting, photograph, drawing, portrait | beautiful, large, strange, old, colourful
toy: ball, doll, kite, puzzle, toy train, teddy bear, drum, yo-yo, toy boat, spinning top | new,
  favourite, little, colourful, wooden
tool: hammer, rope, ladder, spade, broom, saw, brush, axe, rake, bucket | old, strong, new, heavy, rusty
machine: clock, radio, bicycle, lamp, camera, watch, computer, telephone, sewing machine, heater, bell |
  old, new, broken, expensive, strange
vehicle: car, bus, train, bicycle, boat, ship, taxi, truck, tram, van | old, new, red, blue, fast, slow,
  green
ride(on): bus, train, tram, ferry, plane | early, late, crowded, slow, empty
instrument: piano, violin, guitar, flute, drum, trumpet, cello, harp, accordion | old, new, beautiful,
  small
plant: rose, tulip, bush, sunflower, tree, lily, vine, daisy | tall, small, young, beautiful
flower: rose, tulip, daisy, lily, sunflower, violet, poppy | white, yellow, red, fresh, pretty, wild
tree(under): oak, apple tree, pine, willow, pear tree, cherry tree, birch, chestnut tree | old, tall,
  huge, lonely
found: stone, shell, leaf/leaves, feather, stick, flower, pebble, chestnut | smooth, white, strange,
  beautiful, yellow, dry
opener: door, window, gate, box, drawer, suitcase, cupboard, trunk | old, heavy, small, wooden, rusty,
  green
part: wall, roof, door, gate, fence, chimney, window, staircase | old, white, high, new, broken, wooden
building: house, cottage, castle, tower, hotel, church, barn, mill, palace, lighthouse, cabin,
  farmhouse | old, small, tall, empty, beautiful, white, lonely, famous
room(in): kitchen, bedroom, living room, bathroom, attic, cellar, hall, garage, classroom, workshop,
  study | cold, dark, warm, large, quiet, small
shop(at): market, bakery, bookshop, toy shop, supermarket, butcher's, pharmacy, flower shop | busy, new,
  little, old
house(in): library, museum, hospital, theatre, restaurant, café, office, hotel, church, cinema, school,
  palace | big, old, new, quiet, famous, crowded
stop(at): station, airport, bus stop, harbour, post office, border | busy, crowded, small, old
green(in): park, garden, forest, meadow, orchard, field, valley, village, wood, yard | quiet, green,
  beautiful, peaceful, sunny, wide
open(on): beach, hill, island, bridge, farm, square, mountain, playground, riverbank | quiet, sunny,
  lonely, beautiful, windy
water(by): river, lake, sea, pond, stream, waterfall, fountain, canal | calm, cold, deep, blue, wide
town(in): town, village, city, valley, street, suburb | quiet, small, old, strange, pretty, busy
route: road, path, street, river, bridge, lane, tunnel, trail | narrow, long, dark, quiet, winding, dusty
view: sea, mountains, garden, river, harbour, old bridge, sunset, snowy hills, village, lighthouse,
  rainbow
pet: dog, cat, rabbit, parrot, puppy, kitten, hamster, tortoise | little, old, white, brown, friendly,
  clever
horse: horse, pony, donkey, mule | old, young, brown, white, gentle, stubborn
farmanimal: cow, goat, sheep/sheep, pig, hen, goose/geese, duck | fat, white, noisy, young, hungry
wild: fox, bear, wolf/wolves, deer/deer, owl, squirrel, hedgehog, badger, eagle | young, wild, grey,
  large, lonely
bird: robin, crow, sparrow, blackbird, swallow, seagull, eagle, pigeon | little, grey, noisy, lonely
insect: bee, butterfly, spider, beetle, ant, moth | small, tiny, strange, colourful
zoo: elephant, lion, tiger, monkey, giraffe, zebra, penguin, crocodile | huge, old, young, sleepy,
  friendly
game: chess, cards, football, tennis, hide-and-seek, dominoes, basketball
big: table, bed, sofa, desk, bookcase, wardrobe, cupboard, piano | old, heavy, wooden, white
smallglass: cup, glass, plate, mug, vase, bowl, bottle | blue, small, old, beautiful, green
subject~: music, history, geography, science, chemistry, poetry, art, astronomy, grammar
language~: French, Spanish, Italian, German, Arabic, Japanese, Greek, Portuguese
skill: swim, dance, cook, read, write, draw, sing, knit, drive, skate, whistle, juggle
topic: weather, holiday, accident, party, journey, old house, concert, storm, new teacher, wedding, film,
  harvest
occasion: party, wedding, concert, picnic, meeting, festival, lesson, exam, journey, game, film | long,
  noisy, quiet, wonderful, strange
city: London, Paris, Rome, Berlin, Lisbon, Vienna, Oslo, Cairo, Madrid, Dublin, Prague, Athens, Istanbul,
  Lima
"""

UNIONS = """
food: fruit vegetable baked
grocery: staple fruit vegetable
goods: tiny handy
clothes: coat dress
place: room shop house stop green open water
outdoors: green open water
errand: shop house stop
visit: house green open shop
animal: pet wild bird horse
beast: wild zoo
garment: coat dress
anything: handy tool toy vehicle instrument furniture machine
"""


class Noun(NamedTuple):
    """A noun: its plural, the adjectives that suit it, the preposition of a place, whether it is a mass."""

    one: str
    many: str
    adjectives: tuple[str, ...]
    preposition: str
    mass: bool


def _lines(text: str) -> list[str]:
    """Split into lines; an indented line goes on with the last."""
    return text.strip().replace("\n  ", " ").splitlines()


def _nouns(line: str) -> tuple[str, list[Noun]]:
    """Read one line of `CLASSES`."""
    name, _, rest = line.partition(": ")
    words, _, adjectives = rest.partition(" | ")
    name, _, preposition = name.partition("(")
    describing = tuple(adjectives.split(", ")) if adjectives else ()
    mass = name.endswith("~")
    nouns = []
    for word in words.split(", "):
        one, _, many = word.partition("/")
        nouns.append(Noun(one, many or plural(one), describing, preposition.rstrip(")") or "in", mass))
    return name.rstrip("~"), nouns


def noun_classes() -> dict[str, list[Noun]]:
    """Return every class of nouns by name, the unions among them."""
    classes = dict(_nouns(line) for line in _lines(CLASSES))
    for line in _lines(UNIONS):
        name, _, members = line.partition(": ")
        classes[name] = [noun for member in members.split() for noun in classes[member]]
    return classes
