"""What people do: one action a line, the verb first (`templates` tells the language).

`S` is whoever acts. `occasions` holds what they do on one occasion or another.
"""

FRAMES = {
    "home": """
wash {the dishes|the windows|[S.his] hands|[S.his] clothes|the floor|[S.his] hair|[the:vehicle]|the cups
  and plates}
sweep the {kitchen floor|stairs|yard|front steps|cellar}
clean {[the:room]|[the:vehicle]|[S.his] boots|the oven|the windows|[S.his] glasses}
tidy {[the:room]|[S.his] desk|[S.his] room|the bookshelves}
make {the beds|breakfast|[some:hotdrink]|a fire|some sandwiches|pancakes for breakfast|a pot of
  [name:hotdrink]}
cook {dinner|lunch|[some:dish]|some [many:vegetable]|a pot of [one:dish]} {|for [other]|on the old stove}
bake {[a:baked]|some bread|[num:baked]|a birthday cake} {|for [other]|for the party}
peel {[num:vegetable]|some [many:vegetable]|an orange}
cut {[the:vegetable]|the bread|[a:fruit] in two|some cheese|[the:baked] into small pieces}
set the table {|for lunch|for dinner|for [#number] people}
light {the fire|the lamp|[a:=candle]|the stove|the lantern}
close {[the:opener]|the curtains|the shutters|the window}
open {[the:opener]|the curtains|the window|the letter}
lock {[the:opener]|the back door|the shop|the garage}
mend {[own:machine]|the fence|the roof|[S.his] coat|the broken chair|the toy train|the doll}
repair {[own:machine]|[own:vehicle]|the roof|the pump|the old boat}
paint {the fence|[the:part]|the walls of [the:room]|[a:furniture]}
fold {the clean shirts|the towels|the sheets|the map}
iron {[a:dress]|[S.his] shirts|the tablecloth}
water {the flowers|the plants|the garden|the young trees}
plant {[num:flower]|[a:plant]|some [many:vegetable]|a row of [many:vegetable]} {|in the garden|behind the
  house}
pick {[num:flower]|some [many:fruit]|[num:fruit] from the tree|a bunch of [many:flower]}
feed {the hens|[the:pet]|[the:horse]|the ducks|the baby|the goldfish}
dig {a hole|a deep hole|a path through the snow|up some [many:vegetable]}
chop {some wood|the onions|the carrots|a pile of firewood}
dust the {shelves|furniture|books|piano|old clock}
pack {[S.his] suitcase|[S.his] bag|some sandwiches|[S.his] clothes into [a:=suitcase]}
turn {on the radio|off the lamp|off the radio|on the heater|up the music}
""",
    "leisure": """
read {[a:reading]|[the:reading]|the newspaper|[a:reading] about [#about]} {||in the garden|by the fire|on
  the sofa}
write {[a:note]|[a:note] to [other]|in [S.his] diary|a list|[a:=poem] about [#about]}
play {[own:instrument]|the [name:instrument]|[name:game]|[name:game] with [other]|with [a:toy]|a game of
  [name:game]}
draw {a {small|funny|simple} picture of [the:animal]|a picture of [other]|a map of the island|a portrait
  of [other]|[a:pet]|a house with a red roof}
paint {a picture of the [name:view]|a portrait of [other]|a picture of [a:animal]}
listen to {the radio|music|the rain|the birds|[other]|old songs|the wind in the trees|a story}
watch {a film|the sunset|the clouds|the birds|the boats|a football match|the stars|the people in the
  street}
sing {a song|an old song|a song for [other]|a lullaby|in the choir}
dance {|with [other]|in [the:room]|around the fire|all evening}
rest {|under [the:tree]|on the sofa|in the shade|for a while|in the garden}
sleep {|on the sofa|under [a:tree]|for [#hours]|in a tent|until noon}
knit {{a scarf|a sweater|a woollen cap}|{a scarf|a sweater|a woollen cap} for [other]|a pair of socks}
sew {[a:dress]|[a:dress] for [other]|a button on [S.his] coat}
swim {in the [#swim]|across the [#swim]|to the island}
fly {[a:=kite]|a kite on the hill|a kite with [other]}
ride {[a:horse]|[own:=bicycle]|[own:=bicycle] along [the:route]|[a:horse] across the fields|through the
  park on [own:=bicycle]}
collect {[#collect]|[#collect] on the beach|[#collect] in the forest}
visit {[other]|the [name:house]|[the:house]|[name:city]|[other] in [name:city]|[other] in hospital|the
  old [name:building]}
build {a sandcastle|a snowman|a small boat|a tree house|a model [name:vehicle]|a bridge of stones|a nest
  box for the birds}
photograph {the [name:view]|[the:animal]|[other]|the old [name:building]|the first snow}
practise {the [name:instrument]|[S.his] speech|for the concert|the song}
study {[name:subject]|[name:language]|the map|for the exam|the stars}
learn {[name:language]|to [name:skill]|a new song|a poem by heart|the rules of [name:game]}
look at {the stars|[the:picture]|the [name:view]|the old photographs|[the:furniture]|[S.his] watch|
  [the:animal]}
talk {to [other]|to [other] about [the:topic]|about [the:topic]|on the telephone|to the neighbours}
wait for {[other]|the [name:ride]|a letter from [other]|the shop to open|an answer}
sit {on [the:seat]|by the fire|under [a:tree]|in the sun|next to [other]|[at:green]|by the window}
solve {a puzzle|a difficult problem|the riddle|the last question}
tell {[other] a story|[other] a joke|[other] about [the:topic]|[other] the truth|[other] a secret}
telephone [other] {|from the station|from the hotel}
help [other] {with the housework|with [the:=suitcase]|in the kitchen|with the homework|to find [the:tiny]|
  across the street}
""",
    "consume": """
eat {[np:fruit]|[np:baked]|[some:staple]|a bowl of [one:dish]|[#slice]|breakfast|lunch|dinner} {||with
  [other]|in the kitchen|[at:place]}
drink {[some:hotdrink]|[#drink]|[#drink]} {||with [other]|in the kitchen|by the window}
share {[#slice]|[the:baked]|a bowl of [one:dish]|[S.his] lunch|a bag of [many:fruit]} with [other]
taste {[the:dish]|the honey|the cheese|[the:baked]|the sauce}
have {breakfast|lunch|dinner|a cup of [name:hotdrink]|[#slice]|a picnic} {|with [other]|[at:place]|in the
  garden}
order {[#slice]|[some:dish]|[#drink]|a plate of [name:dish]}
finish {[S.his] [name:hotdrink]|[S.his] [name:dish]|[S.his] lunch|the last biscuit}
""",
    "move": """
walk {[to:place]|home|[to:place] with [other]|along [the:route]|through [the:green]|down the stairs|
  across [the:=bridge]|around the lake}
run {[to:errand]|home|up the hill|across the field|along [the:route]|down the stairs|into the garden|out
  of [the:room]|after [other]}
go {[to:place]|home|[to:place] with [other]|[to:errand] to buy [#shopping]|[to:green] to see [#sight]|for
  a walk|upstairs|shopping|[to:water] to fish}
drive {[to:place]|home|[to:errand]|to [name:city]|[other] to the [name:stop]|through the [name:town]|
  along [the:route]}
travel {to [name:city]|to [name:city] by train|to [name:city] with [other]|across the country|from
  [name:city] to [name:city]}
come {home|home from [#from]|back from [name:city]|[to:place]|into [the:room]|down to the [name:water]}
leave {[the:building]|[the:house]|the house|[the:room]|the party early|for [name:city]|the office|the
  village}
return {home|to [name:city]|to [the:building]|from [#from]|to [the:town]}
climb {[the:tree]|the hill|the mountain|the stairs|a ladder|the tower|over the wall|through the window|
  the stairs to the attic}
cross {[the:route]|the square|the border|the river by boat|the bridge|the field}
hurry {home|[to:errand]|[to:stop]|along [the:route]|across the square|up the stairs|back to the
  [name:house]}
take {the bus [to:errand]|the train to [name:city]|a taxi [to:place]|[the:ride] to [the:town]|a walk
  [at:green]}
sail {to the island|across the bay|down the river|around the world|along the coast}
wander {through [the:green]|around the [name:house]|through the streets of [name:city]|along [the:route]|
  through the old town}
follow {[the:route]|[other] to [the:building]|[other] along [the:route]|the map|[the:wild] into the
  forest|the river}
explore {[the:building]|the cave|the island|the forest|the old part of [name:city]}
get {on [the:ride]|off the train|into {the car|the van|the taxi|the boat}|off the bus at the [name:house]}
arrive {home|[at:stop]|at [the:building]|in [name:city]|[at:town]}
""",
    "handle": """
put {[own:tiny] {in|into} [the:smallbox]|[own:tiny] in [S.his] pocket|[own:goods] on [the:surface]|
  [own:handy] {in|into} [the:container]}
hide {[own:tiny] in [a:smallbox]|[own:goods] under the bed|[own:handy] in [a:container]|[own:goods]
  behind [the:hider]|behind [the:hider]}
take {[own:goods] out of [the:container]|[own:handy] from [the:surface]|[own:=umbrella] with [S.him]|
  [own:coat] off|a photograph of [other]}
keep {[S.his] [name:goods] in [a:container]|[S.his] letters in a drawer|[num:tiny] in [a:smallbox]}
carry {[own:container] [to:place]|[a:container] full of [many:fruit]|[the:=suitcase] up the stairs|
  [own:tool] [to:green]|[own:handy] under [S.his] arm}
hold {[own:handy] in [S.his] hands|[own:tiny] up to the light|the door open for [other]|[the:pet] in
  [S.his] arms|the ladder}
throw {the ball to [other]|a stone into the [name:water]|[a:found] into the fire|the ball over the wall|
  away the old newspapers}
wrap {[own:handy] in [#wrap]|the present in red paper|[own:tiny] in a handkerchief}
hang {[own:coat] on a hook|[a:picture] on the wall|[own:coat] by the fire|the wet clothes on the line}
wear {[a:coat]|[a:dress]|[a:coat] and [a:dress]|[the:jewel]|a pair of [many:footwear]|[S.his] best
  clothes}
put on {[own:coat]|[S.his] [many:footwear]|[own:dress]|[own:coat] and [S.his] [many:footwear]|some music}
pull {[the:opener] shut|the curtain aside|[the:container] out from under the bed|@ [name:goods] out of
  [S.his] bag|the boat onto the sand}
push {[the:big] against the wall|the cart up the hill|[the:opener] open|[the:big] into [the:room]|the
  swing}
lift {[the:container]|the lid|the child onto [S.his] shoulders|[the:furniture] with [other]|the receiver}
count {the coins|[S.his] money|the stars|the steps|the chairs|the sheep}
move {[the:furniture] into [the:room]|the chairs closer to the fire|[the:furniture] to the window}
show {[other] [own:goods]|[own:picture] to [other]|[other] the way [to:place]|[other] the [name:view]}
fill {[the:container] with [many:fruit]|the bucket with water|[the:smallbox] with [many:tiny]|the bottle|
  [a:container] with [many:toy]}
empty {[the:container]|[S.his] pockets|the bucket|[the:smallbox]}
drop [own:goods] {|on the floor|into the water|by accident|on the stairs}
""",
    "trade": """
buy {[a:anything]|[a:garment]|[#shopping]|[a:garment] for [other]|[a:gift] for [other]|[#shopping] at the
  market|a ticket|two tickets to [name:city]}
sell {[own:vehicle]|[own:machine]|[own:furniture]|the old [name:building]|[many:fruit] at the market|
  [own:goods] to [other]}
choose {[a:garment]|[a:gift] for [other]|the best seats|a table by the window|[a:picture] for [the:room]}
borrow {[a:tool]|[a:tool] from [other]|[a:=book] from the library|some money|[own:=umbrella] from [other]}
find {[a:goods]|[a:found]|[own:goods] [#hidden]|[num:tiny] [#hidden]|the way home|the answer|[a:found]
  [at:outdoors]}
look for {[own:goods]|[own:goods] [#hidden]|the [name:house]|[a:gift] for [other]|[other]|[S.his]
  [many:footwear]}
order {[a:=book]|[a:furniture] for [the:room]|a taxi|[a:machine]}
pay for {the tickets|dinner|the [name:baked]|[the:garment]|the new windows|everything}
""",
    "give": """
give [other] {[a:gift]|[own:goods]|some money|[#slice]|a glass of [name:colddrink]|good advice|the keys|a
  second chance|[a:gift] for [#day]}
give {[a:gift]|[own:goods]|some money|a flower|the good news} to [other]
hand [other] {[own:goods]|[a:tool]|the keys|a cup of [name:hotdrink]|[the:note]}
send {[other] [a:note]|[a:note] to [other]|[a:gift] to [other]|[other] a postcard from [name:city]|
  [other] some [many:flower]}
lend [other] {[own:goods]|[own:tool]|some money|[own:=book]|[own:=umbrella]}
bring [other] {[a:gift]|[#drink]|some [many:flower]|breakfast in bed|[a:tool]|[#slice]|good news|an
  umbrella}
offer [other] {[#drink]|[#slice]|a chair|some help|a job [at:house]|a seat by the window}
show [other] {[own:goods]|[a:picture]|the garden|the old [name:building]|how to [name:skill]|a photograph
  of [the:view]}
teach [other] {to [name:skill]|[name:language]|[name:subject]|a new song|how to [name:skill]|the rules of
  [name:game]}
read [other] {[a:reading]|a story|the letter|[a:=poem]}
buy [other] {[a:gift]|[a:garment]|an ice cream|[#drink]|lunch|a ticket}
make [other] {some [name:hotdrink]|[a:dress]|[a:baked]|a promise|breakfast}
promise [other] {[a:toy]|[a:gift]|some help|a trip to [name:city]}
""",
    "meet": """
meet [other] {[at:place]|[at:errand]|on the bridge|in [name:city]|after school|for lunch|by chance}
see {[#sight]|[a:wild] in the forest|[other] [at:place]|[a:bird] on the roof|a light in the window|
  [other] on the train}
hear {[a:bird] in the garden|a strange noise|music from [the:building]|[S.his] name|footsteps on the
  stairs|a knock at the door|a loud bang}
notice {[a:animal] by the road|a light in [the:building]|[other] in the crowd|a hole in [the:coat]|an
  open window}
recognise {[other]|the voice|the house|[the:building]|the song at once}
smell {fresh bread|smoke|the sea|the flowers|something strange}
""",
    "react": """
smile {|at [other]|to [S.himself]|happily|shyly}
laugh {|loudly|at the joke|at [S.himself]|for a long time}
cry {|quietly|for a long time|like a child}
nod {|slowly|politely|at [other]|without a word}
wave {|to [other]|goodbye|from the window|a white handkerchief}
sigh {|deeply|with relief}
jump {|for joy|over the puddle|over a low wall}
shake {[S.his] head|hands with [other]|the snow from [S.his] coat}
whisper {something to [other]|a few words|[S.his] secret to [other]}
look {out of the window|at [other]|at [other] in surprise|around the room|up at the sky}
turn around {|slowly|suddenly|in surprise}
hold [S.his] breath {|in the dark|for a moment}
""",
    "rest": """
wake up {|early|late|before dawn|in the middle of the night|with a headache}
fall asleep {|at once|on the sofa|by the fire|in the armchair|on the train}
go to bed {|early|late|after dinner|without dinner}
get up {|early|late|at six o'clock|before sunrise}
sit down {|on [the:seat]|by the fire|next to [other]|for a moment|at the table}
lie down {|on the grass|on the bed|for a moment|in the shade}
stand {by the window|in the doorway|in the rain|behind [other]|at the gate|in front of [the:building]}
kiss {[other]|the baby|[other] goodbye|[other] on the cheek}
hug {[other]|[the:pet]|[S.his] old teddy bear|[other] warmly}
""",
}

UNIONS = {
    # What one can intend, be told to do, or be busy with.
    "task": "home home trade give handle",
    "busy": "home leisure consume",
    "act": "home leisure consume move handle trade give",
    "any": "home leisure consume move handle trade give meet react rest",
}
