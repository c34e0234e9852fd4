"""What people do on one occasion or another: as a gesture, by mishap, in the rain, on the way, as a hobby.

One action a line, as in `actions`; the classes keep apart what would not make sense in the same place.
"""

FRAMES = {
    "gesture": """
smile {|at [other]|shyly|happily}
nod {|slowly|politely}
wave {|goodbye|to [other]}
sigh {|deeply}
shake [S.his] head
close the door {|quietly}
laugh {|loudly|quietly}
turn away
look {away|out of the window|at the floor}
""",
    "settle": """
sit down {|on [the:seat]|by the fire|at the table|under [a:tree]}
lie down {|on the grass|on the bed|in the shade}
go {to bed|home|upstairs|outside|for a walk {|with [other]}}
fall asleep {|at once|on the sofa|by the fire|in the armchair}
wash [S.his] hands
take a {bath|short rest|long walk}
leave {|in a hurry|without a word}
make [some:hotdrink] {|for [other]}
drink [#drink]
have {a rest|lunch|dinner|a cup of [name:hotdrink]}
wait {for [other]|outside|in the [name:house]}
""",
    "together": """
go {for a walk|swimming|to [the:green]|to the beach|home|shopping|to the [name:shop]|fishing}
play {[name:game]|a game of [name:game]|in the garden|outside}
have {lunch|dinner|a picnic|a cup of [name:hotdrink]|a party}
watch {a film|the sunset|the stars|the match}
sing {a song|an old song}
dance
visit {[other]|the [name:house]|[other] in [name:city]}
build {a snowman|a sandcastle|a tree house}
make {some sandwiches|a fire|[some:hotdrink]}
take {the bus [to:errand]|the train to [name:city]|a walk [at:green]}
buy {[a:gift] for [other]|[#shopping]|an ice cream}
climb {the hill|the tower|that mountain}
sit {in the garden|by the fire|under [a:tree]}
cook {dinner|[some:dish]} {|for [other]}
walk {home|along the river|[to:place]}
read {a story|[a:reading]}
fly a kite
look for {mushrooms|[own:goods]|shells}
""",
    "project": """
travel {to [name:city]|around the world|to [name:city] with [other]|by boat to [name:city]}
build {a house|a boat|[a:building]|a house by the [name:water]}
learn {[name:language]|to [name:skill]|[name:language] and [name:language]}
buy {[a:vehicle]|[a:building]|[a:horse]|[a:instrument]|a house in [name:city]}
sell {the house|[own:vehicle]|the farm}
write {a book|a book about [#about]|a story about [#about]}
visit {[other] in [name:city]|[name:city]|the old [name:building] by the sea}
study {[name:subject]|[name:subject] in [name:city]|[name:language]}
move {to [name:city]|to a small [name:town]|into [a:building]}
become {a doctor|a teacher|a famous singer|a pilot|a sailor|a dancer|a painter}
open {a bakery|a small shop|a restaurant|a school}
plant {some trees|[num:tree]|a small garden}
sail {around the world|to a distant island|across the sea}
win {the race|the first prize|a chess game}
work {in [name:city]|on a farm|at the [name:house]}
""",
    "hobby": """
read {old books|fairy tales|poems|in bed|by the fire|books about [#about]}
write {poems|long letters|stories about [#about]|in [S.his] diary}
play {[name:game]|[name:game] with [other]|the [name:instrument]|the [name:instrument] in the evening}
paint {flowers|animals|pictures of the sea|old houses}
swim in the {river|sea|lake}
dance {|with [other]|to old songs}
sing {in the choir|old songs|with [other]|in the bath}
collect {stamps|shells|old coins|[many:found]|maps}
watch {the birds|old films|the stars|football}
grow {roses|[many:vegetable]|[many:flower]}
bake {bread|[many:baked]|[many:baked] for [other]}
listen to {old songs|the radio|the birds|stories about [#about]}
ride {[bare:horse]|a bicycle|a horse along the beach}
walk {in the forest|by the sea|in the hills|in the rain}
knit {scarves|socks|sweaters for [other]}
fly kites {|on the beach|with [other]}
study {[name:subject]|[name:language]|the stars}
travel {by train|to [name:city]|with [other]}
cook {for [other]|[name:dish]|for many people}
talk about {[the:topic]|[name:city]|the old days|[bare:animal]}
feed the {ducks|birds|cats}
repair {old clocks|[bare:machine]|old bicycles}
build {model ships|sandcastles|tree houses}
sleep {in a tent|late|under the stars}
drink [name:hotdrink] {|in the garden|with [other]}
""",
    "lasting": """
read {|in bed|by the fire|under [a:tree]|in the library|old letters|fairy tales}
write {|letters|in [S.his] diary|poems}
play {the [name:instrument]|[name:game]|[name:game] with [other]|in the garden|with [the:pet]}
work {|in the garden|in the fields|at the [name:shop]|in the kitchen|with [other]|hard}
talk {to [other]|about [the:topic]|on the telephone|to [other] about [the:topic]}
wait {for [other]|for the [name:ride]|at the [name:stop]|in front of [the:building]}
sit {by the window|by the fire|on [the:seat]|under [a:tree]|in the sun}
listen to {music|the radio|the rain|old songs|[other]}
study {[name:subject]|[name:language]|in the library|for the exam}
sleep {|on the sofa|in a tent|in the shade}
dance {|with [other]|around the fire}
swim {|in the lake|in the sea|with [other]}
travel {|through the country|with [other]|by train}
walk {|along [the:route]|through [the:green]|in the rain|around [the:town]}
paint {|in the garden|with [other]|[bare:flower]|the walls of [the:room]}
watch {the birds|the stars|the boats|films|the people in the street}
practise {|the [name:instrument]|for the concert}
look for {[own:goods]|[other]|mushrooms|[the:pet]}
help {[other]|[other] in the garden|on the farm|in the kitchen}
""",
    "chore": """
cook {dinner|lunch|breakfast|[some:dish]} {|for [other]}
wash the {dishes|cups and plates}
set the table {|for dinner|for lunch}
make {breakfast|[some:hotdrink]|sandwiches}
clean {the kitchen|the oven|the windows}
peel {some [many:vegetable]|an orange}
bake {[a:baked]|some bread|[num:baked]}
help [other] in the kitchen
""",
    "accident": """
break {[a:smallglass]|a plate|[the:smallglass]|a window}
burn {[S.his] finger|[S.his] hand|the sauce}
cut [S.his] finger {|with a knife|on a piece of glass}
drop {[a:smallglass]|a tray|an egg} {|on the floor}
spill {some [one:colddrink]|the soup|[some:hotdrink]} {on the floor|on [other]|on [S.his] shirt|}
hurt {[S.his] hand|[S.his] thumb|[S.his] knee}
slip on the wet floor
""",
    "way": """
walk {home|through [the:green]|along [the:route]|to school|[to:errand]}
run {[to:errand]|home|after the bus|along [the:route]}
climb {the hill|over the wall|the stairs|the tower}
cross {the street|the bridge|the square}
hurry {home|to the station|[to:errand]}
carry [a:container] {home|[to:errand]|up the stairs}
""",
    "stumble": """
slip {|on the ice|on a wet stone|on the wet leaves}
lose {[S.his] [name:tiny]|[S.his] balance|[S.his] hat|a glove|[S.his] umbrella}
fall {|over a stone|over a stick|into a puddle}
meet [other] {|by chance}
tear {[S.his] coat|[S.his] shirt}
hurt {[S.his] foot|[S.his] knee|[S.his] arm}
find {[a:tiny]|[a:found]|some money|[a:garment]}
see {[a:wild]|[a:pet]|[other]|a rainbow|an accident}
drop {[own:goods]|[S.his] bag}
hear {a strange noise|[a:bird]|somebody call [S.his] name}
""",
    "think": """
think {of [other]|about [the:topic]|of [S.his] home|about [name:city]|of the long journey}
remember {[other]|[the:occasion]|the words of the song|[S.his] childhood|the old days}
wait for {[other]|an answer|the morning|the doctor}
""",
    "arrive": """
come {home|back from [name:city]|into [the:room]|back from [#from]|to the door}
return {home|from [#from]|from [name:city]|with [a:gift]}
arrive {at [the:building]|[at:stop]|in [name:city]|with [other]}
enter {[the:room]|[the:building]|the kitchen|the shop}
knock at the {door|window|gate}
""",
    "leave": """
leave {the house|for school|for [name:city]|the office}
go {home|to bed|to work|to school|on holiday}
catch {the bus|the train|the last ferry}
""",
    "help": """
do {it|all the work|everything}
wash the dishes
cook dinner
find {the answer|the key}
buy {the tickets|some bread|everything}
repair [the:machine]
clean the kitchen
""",
    "mishap": """
lose {[S.his] [name:goods]|[S.his] way in [the:green]|[S.his] ticket|[S.his] balance|a glove}
break {[a:smallglass]|[S.his] arm|the window|the doll|a plate|the toy boat}
drop {[own:goods]|[a:smallglass]|the tray|the [name:baked]} {|on the floor|into the water|on the stairs}
miss {the bus|the last train|the ferry to the island|the beginning of the film}
forget {[S.his] [name:goods]|[S.his] ticket|the name of the street|[S.his] [name:goods] on the train}
burn {the toast|the soup|[S.his] finger|[the:baked]}
spill {[some:hotdrink]|[some:colddrink]|the soup} {on the carpet|on [other]|on [S.his] shirt|}
fall {down the stairs|into the river|off [S.his] bicycle|asleep in class|over a stone|from the ladder}
slip {on the ice|on the wet floor|on a banana skin}
tear {[S.his] shirt|a page of [the:=book]|[S.his] coat}
cut [S.his] finger {|on a piece of glass|with a knife}
catch a cold {|in the rain|in [name:city]|at school}
""",
    "never": """
tell {a lie|[other] my secret}
open {[the:container]|the letter|the door to strangers}
leave {the door open|the children alone|[the:tool] in the rain}
forget {to lock the door|to thank [other]|your friends}
run {with a knife in your hand|on the ice|down the stairs}
feed [the:zoo]
play with {fire|matches|[a:tool]}
give up {too early|hope}
swim in the river {at night|alone|after a storm}
""",
    "outdoor": """
go {for a walk {|with [other]|[at:green]|along the river}|swimming {|in the [#swim]}|to the beach {|with
  [other]}|fishing {|with [other]}}
play {football|tennis|outside|with the dog|hide-and-seek} {|[at:green]|with [other]}
fly a kite {|on the hill|on the beach|with [other]}
work in the {garden|fields|vineyard|yard} {|with [other]|all morning}
have a picnic {|in the park|by the [name:water]|with [other]}
ride [own:=bicycle] {to [the:town]|along the river|to [the:building]|around the lake}
sit {in the garden|on the balcony|on a bench in the park|by the [name:water]} {|with [other]}
walk [to:open] {|with [other]}
pick {[many:flower]|berries|[many:fruit]} [at:green]
climb the hill {|with [other]}
take the {dog|children} for a walk
""",
    "indoor": """
stay {at home|indoors|in bed|at home with [other]|in the [name:house]}
read {a book|the newspaper|[a:reading]|fairy tales} by the fire
play {chess|cards|the piano|dominoes} {|with [other]|in the living room}
drink hot {cocoa|tea|milk} {|in the kitchen|by the stove|with [other]}
bake {[a:baked]|bread|[num:baked]} {|with [other]}
wait {in the [name:house]|in the hall|under the roof of [the:building]}
write {letters|[a:note] to [other]|in [S.his] diary}
watch {a film|television|the rain through the window} {|with [other]}
clean {[the:room]|the windows|the cupboards}
""",
}
