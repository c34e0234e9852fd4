"""What people do for a living, and what animals do: actions by trade and by kind of animal."""

ANIMAL_KINDS = """
dog: dog, puppy, old dog, white dog, big dog, little dog
cat: cat, kitten, black cat, grey cat, little cat
horse: horse, pony, donkey, brown horse, white pony, old donkey
farm: cow, goat, sheep, pig, black sheep, young goat
fowl: hen, duck, goose, white goose, brown hen
bird: robin, crow, sparrow, blackbird, swallow, seagull, little bird, pigeon
owl: owl, eagle, hawk, white owl
wild: fox, bear, wolf, young fox, grey wolf, brown bear
small: squirrel, hedgehog, rabbit, mouse, hamster, little mouse, grey rabbit
insect: bee, butterfly, spider, beetle, ladybird, moth, blue butterfly
zoo: monkey, elephant, lion, giraffe, young elephant, old lion
water: frog, fish, turtle, big fish
sea: dolphin, whale, seal, young seal
"""

JOB_FRAMES = {
    "job.baker": """
bake {[num:baked]|bread for the whole village|fresh bread|[a:baked] for [other]} {|before sunrise|every
  morning|in the big oven}
sell {warm bread|[num:baked]|fresh bread and [many:baked]} {|to [other]|at the market}
get up {before sunrise|at four o'clock} to {bake bread|light the oven}
""",
    "job.farmer": """
feed {[the:farmanimal]|the cows|the pigs|the hens} {|before breakfast|in the barn}
milk {the cows|the goats} {|at dawn|in the barn|before sunrise}
sell {[many:vegetable]|[many:fruit]|some eggs|milk and cheese} at the market
dig up [num:vegetable] {|in the field|for [other]}
drive the {tractor|sheep|cows} {across the field|to the barn|home}
""",
    "job.teacher": """
explain {the lesson|the rules of grammar|the map|a difficult problem} to {the class|the children|[other]}
teach {[name:subject]|[name:language]|the children to [name:skill]} {|at the village school|for many
  years}
write {a sentence|some numbers|a question|the date} on the board
correct the {homework|exams|spelling} {|in the evening|in red ink|with a smile}
ask the class {a question|about [name:subject]|to open their books}
""",
    "job.doctor": """
examine {the patient|[other]|the old man|the sore throat} {|carefully|with great patience}
give {the patient|[other]} {some medicine|good advice|a glass of water}
visit {the sick|[other] in hospital|three patients|the sick child} {|at home|in the evening|before
  breakfast}
work at the hospital {|all night|on Sundays|near the harbour}
""",
    "job.painter": """
paint {a portrait of [other]|the [name:view]|[a:animal]|a picture of [the:building]} {|in oil|in bright
  colours|from memory}
mix {blue and yellow|the colours|some white paint} {|on a plate|with great care}
draw {[the:pet]|[other]|the [name:view]} {|in pencil|with a piece of chalk}
sell {[a:picture]|[S.his] first picture} {to [other]|to the museum|for very little money}
""",
    "job.gardener": """
plant {[num:flower]|[a:plant]|a row of [many:flower]} {|along the wall|behind the house|near the gate}
water the {roses|flowers|lawn|young trees} {|every evening|in the heat|before sunset}
cut {the grass|the hedge|[num:flower] for [other]} {|with great care|in the morning}
dig a hole for [a:plant]
""",
    "job.sailor": """
sail {to the island|around the world|across the bay|to [name:city]} {|in a small boat|in a storm|with
  [other]}
tell [other] about {the sea|distant islands|a terrible storm|a white whale}
repair {the sails|the boat|a broken mast|the nets} {|in the harbour|before the storm}
sing an old song {|about the sea|on the deck}
""",
    "job.cook": """
prepare {a feast|dinner|[some:dish]|a special meal} {|for [other]|for fifty guests|in the hotel kitchen}
chop {the onions|some [many:vegetable]|the carrots} {|with a sharp knife|very quickly}
taste {[the:dish]|the sauce|the soup} {|with a wooden spoon|twice}
burn {[the:baked]|the rice|the sauce}
""",
    "job.tailor": """
sew {[a:dress]|[a:coat]|[a:dress] for [other]} {|by hand|in three days|for the wedding}
measure {[other]|the cloth|the sleeves} {|carefully|twice}
mend {[a:coat]|the torn sleeve|[a:dress]} {|for [other]|with red thread}
""",
    "job.carpenter": """
make {[a:furniture]|a wooden horse|a strong table|a cradle} {|for [other]|out of oak|in the workshop}
saw {the boards|a plank|the wood} {|in two|in the yard}
mend {the stairs|the broken chair|the roof of [the:building]} {|for [other]|with a few nails}
""",
    "job.shopkeeper": """
sell {[a:gift] to [other]|[other] [a:gift]|[#shopping]|[a:garment] to [other]}
count the money {|in the till|twice|after closing time}
open the shop {|at eight o'clock|early|late}
put {[a:gift]|the new hats|a basket of [many:fruit]} in the window
""",
    "job.librarian": """
put {the books|the old maps} back on the shelves
help [other] to find [a:=book] {|about [#about]}
read {[a:reading]|the old letters} {|behind the counter|aloud to the children}
lend [other] [a:=book] {|about [#about]}
""",
    "job.musician": """
play {the [name:instrument]|[a:instrument]|an old tune|a slow waltz} {|for [other]|at the wedding|in the
  square|all night}
tune {[S.his] [name:instrument]|the old piano} {|before the concert|with great care}
practise {the [name:instrument]|a difficult piece} {|all morning|for hours|before breakfast}
""",
    "job.driver": """
drive {[other] [to:stop]|through the rain|slowly along [the:route]|all night|[other] to the hospital}
stop {at the corner|in front of [the:building]|at the red light|near the [name:stop]}
wait {outside the hotel|at the station|for the last passenger}
wash the windows of the {bus|car} {|in the yard}
""",
    "job.pilot": """
fly {to [name:city]|over the mountains|through the clouds|from [name:city] to [name:city]} {|at night|
  without any trouble}
land {the plane|safely|in the fog|in [name:city]} {|at midnight|without a problem}
check {the engines|the map|the weather report} {|carefully|twice}
""",
    "job.singer": """
sing {an old song|in [name:city]|a song about [#about]|for [other]} {|with great feeling|at the wedding|
  without a mistake}
learn {a new song|the words by heart} {|for the concert|in one day}
bow {|deeply|to the audience} after the last song
""",
    "job.mechanic": """
repair {[the:vehicle]|[the:vehicle] in an hour|the engine|the brakes} {|for [other]|without charging
  anything}
clean {the engine|[S.his] hands|the tools} {|with an old cloth}
change {a tyre|the oil|a broken lamp}
""",
    "job.shepherd": """
count the sheep {|in the evening|before the storm|one by one}
look for {a lost lamb|the black sheep|a better meadow} {|in the hills|until dark}
lead the sheep {to the river|down the mountain|to the meadow|home}
play the flute {|on the hill|for the sheep}
""",
    "job.waiter": """
bring [other] {the menu|the bill|a cup of [name:hotdrink]|[#slice]|[some:dish]}
carry {six plates|a tray of glasses|the soup} {|to the table|with one hand|across the room}
drop {a plate|a tray of glasses|a spoon} {|on the floor|in front of [other]}
clear the tables {|after lunch|without a sound}
""",
    "job.officer": """
ask [other] {some questions|about the accident|for a description of [the:vehicle]}
find {the stolen [name:jewel]|a clue|an important clue|the missing [name:vehicle]} {|in the cellar|under
  the bridge|behind the house}
follow {the thief|[a:vehicle]|a man in [a:coat]} {|through the streets|to [the:stop]|at a distance}
write {a report|everything down|down the number of [the:vehicle]}
stop {the traffic|[the:vehicle]|a cyclist without lights}
""",
    "job.writer": """
write {[a:reading]|a story about [#about]|a book about [#about]|the last chapter} {|in one night|by hand|
  in a small cabin}
read {[a:=poem]|the first page} to {[other]|the audience}
throw {the first page|ten pages} into the fire
""",
    "job.student": """
study {[name:subject]|for the exam|[name:language]|[name:subject] and [name:language]} {|all night|in the
  library|with [other]}
pass the {exam|test} {|at last|with good marks|in [name:subject]}
borrow {[a:=book]|some notes} from [other]
forget {the homework|the date of the exam|[S.his] [many:tiny]}
""",
    "job.scientist": """
study {the stars|the life of bees|[name:subject]|old maps|the moon} {|for many years|in [name:city]|
  through a telescope}
discover {a new star|an old mistake|a rare plant|a new kind of [name:insect]} {|by chance|in the desert|
  at last}
explain {the problem|the idea|the experiment} to {the students|[other]}
write {a long report|a book about [#about]}
""",
    "job.firefighter": """
save {[other]|[a:pet]|an old woman|a child} from {the fire|the burning [name:building]|the flood}
climb {the ladder|onto the roof} {|in the smoke|with a rope}
put out the fire {|in [the:building]|in an hour|before midnight}
""",
    "job.photographer": """
take {a picture of [other]|a photograph of [the:animal]|some pictures of the [name:view]} {|at sunrise|
  from the tower}
wait {for the light|for hours|for [the:animal] to move}
show [other] {[num:picture]|the best photograph}
""",
    "job.dentist": """
look at {[S.his] list|the tooth|the patient's teeth} {|carefully|through a small mirror}
pull out a tooth {|without any pain|in a minute}
tell [other] {not to worry|to eat fewer sweets|to come back in spring}
""",
    "job.postman": """
bring [other] {[a:note]|a heavy parcel|good news|three letters}
ride {[a:=bicycle]|[a:=bicycle] up the hill|through the village}
put {[a:note]|three letters|the newspaper} {in the letterbox|under the door}
knock at the door {|twice|of [the:building]}
""",
    "job.builder": """
build {[a:building]|a wall|a bridge|a new school} {|of red brick|near the river|in six months|for [other]}
mend {the roof|the chimney|the old wall} {|of [the:building]|before winter}
carry {bricks|sand|heavy stones} {up the ladder|across the yard}
""",
    "job.judge": """
listen to {both sides|the witness|[other]} {|patiently|without a word}
ask {the witness|[other]} {a simple question|to tell the truth|to speak louder}
write {a long letter|[S.his] decision} {|with great care}
""",
    "job.dancer": """
dance {in [name:city]|with [other]|alone on the stage|to slow music} {|until midnight|for the king}
practise {in front of the mirror|a difficult step} {|every morning|for hours}
tie {[S.his] shoes|up [S.his] hair} {|before the show}
""",
    "job.actor": """
learn {the part|a long speech} by heart
play {a king|an old thief|the hero|a doctor} {|in a new film|at the theatre|in a comedy}
forget {the words|[S.his] lines} {|on the first night|in the second act}
""",
    "job.dog": """
bark {at [other]|at the postman|at the moon|loudly|all night}
chase {[a:=ball]|the cat|a rabbit|its tail|a stick} {|around the garden|across the field|through the mud}
dig {a hole|a deep hole} {in the garden|under the fence|for its bone}
wag its tail {|happily|when it hears a voice}
sleep {in front of the fire|under the table|on the doormat}
bring [other] {a stick|a slipper|the newspaper}
jump {into the river|over the fence|onto the sofa}
""",
    "job.cat": """
sleep {on [the:surface]|in the sun|in a basket|on the roof} {|all day|for hours}
chase {a mouse|a butterfly|a ball of wool} {|across the floor|around the table}
climb {onto the roof|up [a:tree]|over the wall}
drink {some milk|from a puddle|a bowl of milk}
hide {under the bed|behind [the:hider]|in [a:container]}
sit {on the windowsill|by the fire|on the wall} {|for hours|all morning|without a sound}
watch {the birds|a mouse|the goldfish|[other]} {from the window|from the roof|with green eyes}
""",
    "job.horse": """
gallop {across the field|along the beach|through the forest}
eat {some hay|an apple|a carrot|the grass} {|from a bucket|in the stable|in the meadow}
pull {a heavy cart|the plough|an old carriage} {|up the hill|through the village}
jump over {the fence|the stream|a high wall}
refuse to {move|cross the bridge|leave the stable}
""",
    "job.farm": """
eat {the grass|some hay|the flowers|the cabbages} {|in the meadow|behind the barn|all day}
run {into the barn|through an open gate|after [other]}
stand {in the middle of the road|under a tree|by the fence}
follow [other] {|to the gate|across the field|home}
""",
    "job.fowl": """
lay {an egg|three eggs} {|in the straw|under a bush|behind the barn}
swim across the pond {|with its young}
cross the {road|yard|street} {|slowly|without looking}
eat {some corn|a worm|the crumbs} {|in the yard|from a bowl}
""",
    "job.bird": """
sing {in [the:tree]|at dawn|on the roof|a sweet song}
build a nest {in [the:tree]|under the roof|in the chimney|of twigs and grass}
fly {over the house|to the south|through the open window|from branch to branch|away}
pick up {a crumb|a worm|a piece of bread} {|in the garden|from the ground}
sit {on the fence|on a branch|on the chimney} {|in the rain|all morning}
""",
    "job.owl": """
fly {over the forest|silently through the night|across the valley|to its nest}
sit {on a branch|on the tower|in [the:tree]} {|without a sound|for hours}
catch {a mouse|a fish} {|in the dark|at dusk}
""",
    "job.wild": """
drink from the {river|stream|lake} {|at dawn|in the moonlight}
hide {in a cave|in the bushes|behind a rock}
look for food {|in the snow|near the village|at night}
run {through the forest|across the road|into the dark wood}
steal {a hen|some honey|a fish} {|from the farm|at night}
""",
    "job.small": """
hide {under the leaves|in a hole|behind a stone|in the grass}
eat {a nut|some seeds|a carrot|a piece of cheese} {|in the moonlight|under [a:tree]}
run {up the tree|across the path|along the wall|into the kitchen}
carry {a nut|a leaf|some dry grass} {to its nest|across the garden}
sleep {all winter|in a bed of leaves|in a warm hole}
""",
    "job.insect": """
sit on {a leaf|[a:flower]|the window|the edge of the cup}
fly {from flower to flower|around the lamp|into the house|over the grass}
land on {[a:flower]|[other]|the cake|an open book}
crawl {up the wall|across the page|under the door|over a stone}
""",
    "job.zoo": """
eat {a banana|some leaves|an apple|breakfast} {|in the shade|behind the bars|very slowly}
sleep {under a tree|in the sun|in the shade} {|all afternoon}
look at {the visitors|[other]|the sky} {|sadly|curiously|for a long time}
walk {slowly through the grass|around the pool|down to the water}
""",
    "job.sea": """
swim {around the boat|along the coast|under the ice|far from the coast}
jump {out of the water|over a wave|high into the air} {|near the boat|in the bay}
follow {the ship|a small boat} {|for hours|out of the bay}
""",
    "job.water": """
swim {across the pond|under the bridge|away|around the boat|to the bottom of the lake}
jump {out of the water|into the pond|over a wave}
hide {under a stone|among the weeds|in the deep water}
""",
}
