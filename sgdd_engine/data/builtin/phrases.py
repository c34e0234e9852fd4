"""Phrases that the patterns are made of: times, weather, feelings with their causes, obstacles, purposes."""

RULES = {
    "number": "two; three; four; five; six; ten; twelve",
    "hours": "an hour; two hours; ten hours; half an hour; a long time; a few minutes",
    "about": """
the sea; the stars; a lonely king; a brave girl; the moon; two brothers; a talking [name:pet]; love
winter; the old days; a lost city; ships; [bare:wild]; [name:city]; the desert; friendship
""",
    "swim": "river; lake; sea; pool; cold water",
    "collect": "shells; stones; mushrooms; firewood; [bare:found]; berries",
    "slice": """
a slice of {bread|ham|cheese|cake|melon}; a piece of {cake|chocolate|pie|bread}; a bowl of [one:dish]
a bag of [many:fruit]; a sandwich; [a:baked]
""",
    "drink": """
a cup of [one:hotdrink]; a glass of [one:colddrink]; a mug of [name:hotdrink]
a bottle of [name:colddrink]; some [one:colddrink]
""",
    "shopping": """
some bread; [num:fruit]; some [name:staple]; milk and bread; a bag of flour; [some:staple]
some [many:vegetable]; a kilo of [many:vegetable]; a bottle of [name:colddrink]
[some:grocery] and [some:grocery]
""",
    "sight": """
the sunset; the ducks; the new bridge; the old [name:building]; the snow; the boats; a rainbow
""",
    "from": "work; school; the [name:shop]; the [name:stop]; [name:city]; the [name:water]",
    "hidden": """
under the bed; under [the:surface]; behind [the:hider]; in [the:container]
at the bottom of [the:container]; in an old [name:smallbox]; in the [name:room]; under a pile of clothes
between two books
""",
    "wrap": "paper; a newspaper; a towel; a blanket; red paper",
    "day": "[S.his] birthday; Christmas; the journey; the wedding; the long winter",
    # Times, by what they go with.
    "past": """
yesterday; last night; last week; last summer; last winter; yesterday morning; yesterday evening
on [#weekday]; on [#weekday] morning; one [#weekday] evening; two days ago; a week ago; a long time ago
this morning; that evening; at [#clock]; early in the morning; late at night; in the afternoon
in [#month]; on the first day of [#month]; one day; in the middle of the night
after {lunch|dinner|breakfast|the storm|school|work}; at {noon|midnight|dawn|dusk}
""",
    "lately": """
yesterday; last night; last week; this morning; on [#weekday]; yesterday evening
after {lunch|dinner|breakfast|school|work}
""",
    "future": """
tomorrow; next week; tomorrow morning; on [#weekday]; next [#weekday]; in an hour; in two days; soon
tonight; this evening; at [#clock]; before dinner; after {lunch|dinner|school|work}
""",
    "habit": """
every day; every morning; every evening; every [#weekday]; on [#weekday]s; in summer; in winter
in the evening; before breakfast; after school; once a week; twice a month; at the weekend
when the sun shines
""",
    "when": "[~[#past]/[#habit]]",
    "season.time": """
in summer; in winter; in the evening; before breakfast; after school; at the weekend; on [#weekday]s
when the sun shines; after dinner; in the morning
""",
    "howlong": """
all {day|night|morning|evening|afternoon}; for [#hours]
until {midnight|dinner|late at night|it [~was/is] dark}; from noon until {midnight|five o'clock}
from morning until evening
""",
    "weekday": "Monday; Tuesday; Wednesday; Thursday; Friday; Saturday; Sunday",
    "month": "January; March; April; May; June; July; September; October; November; December",
    "clock": """
one o'clock; six o'clock; seven o'clock; eight o'clock; half past nine; four in the morning; five o'clock
""",
    "season": "spring; summer; autumn; winter",
    "slowly": """
slowly; quietly; quickly; carefully; proudly; suddenly; alone; happily; in silence; without a word
""",
    "often": "often; usually; sometimes; never; always; rarely",
    # Weather as it is and what it makes people do.
    "skies": """
it [~was/is] raining; it [~was/is] snowing; the sun [~was/is] shining
it [~was/is] very {cold|hot|windy|dark|foggy}; the wind [~was/is] blowing {|hard|from the sea}
it [~was/is] raining {heavily|hard}; the sky [~was/is] {blue|grey|dark|clear}
the streets [~were/are] {wet|covered with snow|empty}; the snow [~was/is] {deep|melting}
the moon [~was/is] {full|bright}
""",
    "weather.act": """
[S.v:open] [S.his] umbrella because it [~was/is] raining
[S.v:stay] at home because {it [~was/is] raining|of the storm|it [~was/is] too cold|the streets
  [~were/are] icy}
[S.v:put] on [a:coat] because it [~was/is] {cold|windy|snowing|freezing}
[S.v:close] {the window|the shutters|the door} because {it [~was/is] cold|the wind [~was/is] blowing|it
  [~was/is] raining}
[S.v:light] the fire because the [name:room] [~was/is] cold
[S.v:turn] on the lamp because it [~was/is] {getting dark|dark in the [name:room]}
[S.v:sit] in the shade because it [~was/is] so hot
[S.v:open] the window because it [~was/is] {hot|stuffy} in [the:room]
[S.v:drive] slowly because {of the fog|the road [~was/is] icy|of the heavy rain}
[S.v:take] [own:=umbrella] because {it [~was/is] raining|the sky [~was/is] grey}
""",
    # Feelings and what causes them; the cause is always the subject's own.
    "glad": "happy; glad; very happy; pleased; delighted; in a good mood",
    "glad.why": """
[S.he] [S.have] found [S.his] [name:tiny]
[S.he] [S.have] {passed the exam|won the race|won a prize|got a new job}
[friend] [~had/has] come to visit [S.him]; [friend] [~had/has] given [S.him] [a:gift]
the sun [~was/is] shining again; [S.he] [~could/can] [S.base:leisure] again; it [~was/is] [S.his] birthday
[S.he] [S.have] no homework
[friend] [~had/has] {written to [S.him]|promised to help [S.him]|invited [S.him] to dinner|come home}
the holidays [~had/have] begun; [S.he] [S.v:like] {the new house|the new teacher|the food}
[S.his] team [~had/has] won
""",
    "sad": "sad; unhappy; very sad; upset; in a bad mood; disappointed",
    "sad.why": """
[S.he] [S.have] lost [S.his] [name:goods]; [S.he] [~could not/cannot] find [S.his] [name:tiny]
[S.he] [S.have] {failed the exam|lost the game|missed the train}
[friend] [~had/has] {moved away|forgotten [S.his] birthday|not written for months|broken [S.his]
  favourite [name:toy]}
it [~was/is] raining on [S.his] birthday; the summer [~was/is] over
nobody [~wanted/wants] to play with [S.him]; [friend] [~was/is] in hospital
[S.his] [name:pet] [~had/has] run away; [S.he] [~had to/must] stay at home; the picnic [~was/is] cancelled
""",
    "cross": "angry; annoyed; furious; cross",
    "cross.why": """
[friend] [~had/has] {broken the [name:machine]|lost the keys|told a lie|eaten the last [name:baked]|
  forgotten the tickets}
the [name:ride] [~was/is] late again; someone [~had/has] stolen [S.his] [name:=bicycle]
nobody [~listened/listens] to [S.him]; the neighbours [~were/are] so noisy
[the:machine] [~was/is] broken again; the soup [~was/is] cold
""",
    "afraid": "afraid; scared; frightened; nervous; worried",
    "afraid.why": """
there [~was/is] a strange noise in [the:room]; it [~was/is] dark in the [name:room]
[friend] [~was/is] late; [S.he] [S.have] seen [a:wild] near the house; the exam [~was/is] very difficult
the ice [~was/is] thin; the storm [~was/is] coming closer
[S.he] [S.have] to speak in front of many people; someone [~was/is] knocking at the door
the path [~was/is] steep and icy
""",
    "tired": "tired; very tired; exhausted; sleepy",
    "tired.why": """
[S.he] [S.have] worked all {day|night|week}
[S.he] [S.have] walked {for hours|a long way|up the mountain}
[S.he] [S.have] not slept well; the journey [~had/has] been long; [S.he] [S.have] danced until midnight
[S.he] [S.have] got up before dawn; [S.he] [S.have] carried [a:container] [to:place]
[S.he] [S.have] been ill for a week
""",
    "proud": "proud; very proud; proud and happy",
    "proud.why": """
[S.he] [S.have] {baked the cake without any help|won the first prize|learnt to [name:skill]|solved the
  riddle|built the boat alone}
[friend] [~had/has] won the race; the picture [~was/is] so beautiful
everybody [~liked/likes] [S.his] [name:picture]
""",
    "ashamed": "ashamed; embarrassed; very sorry",
    "ashamed.why": """
[S.he] [S.have] {told a lie|broken a window|forgotten the words of the song|been rude to [other]|arrived
  late}
[S.he] [S.have] spilled [some:hotdrink] on the carpet; everybody [~was/is] looking at [S.him]
""",
    "bored": "bored; very bored",
    "bored.why": """
the {film|lesson|speech|meeting} [~was/is] too long; there [~was/is] nothing to do
[S.his] friends [~were/are] away; it [~had/has] been raining for days
""",
    "lonely": "lonely; homesick",
    "lonely.why": """
[S.he] [S.be] far from home; [S.he] [S.v:know] nobody in [name:city]; all [S.his] friends [~had/have] left
""",
    "feeling": """
[#glad] because [#glad.why]; [#sad] because [#sad.why]; [#cross] because [#cross.why]
[#afraid] because [#afraid.why]; [#tired] because [#tired.why]; [#proud] because [#proud.why]
[#ashamed] because [#ashamed.why]; [#bored] because [#bored.why]; [#lonely] because [#lonely.why]
[#glad] because [#glad.why]; [#sad] because [#sad.why]; [#tired] because [#tired.why]
""",
    "mood": """
happy; sad; tired; angry; hungry; worried; bored; lonely; excited; proud; thirsty; nervous; calm; curious
ill
""",
    # A state and what one does about it.
    "remedy": """
hungry, so [S.he] [S.v:eat] {[a:fruit]|[#slice]|[a:baked]}; thirsty, so [S.he] [S.v:drink] [#drink]
tired, so [S.he] [S.v:go] to bed {|early|after dinner}; cold, so [S.he] [S.v:put] on [a:coat]
bored, so [S.he] [S.do:leisure]; lonely, so [S.he] [S.v:telephone] [other]
ill, so [S.he] [S.v:stay] in bed {|all day}; late, so [S.he] [S.v:run] [to:errand]
curious, so [S.he] [S.v:open] {the box|the letter|the door}; lost, so [S.he] [S.v:ask] [other] the way
wet, so [S.he] [S.v:sit] down by the fire; hot, so [S.he] [S.v:take] off [own:coat]
""",
    "sothat": """
tired that [S.he] [S.v:fall] asleep {at once|on the sofa|in the armchair|on the train}
happy that [S.he] [S.v:begin] to {sing|dance|laugh}
angry that [S.he] [S.v:leave] {the room|[the:house]|without a word}
hungry that [S.he] [S.v:eat] {[num:baked]|two bowls of [name:dish]|everything on the table}
afraid that [S.he] [S.v:hide] {under the bed|behind [the:hider]|in the cellar}
busy that [S.he] [S.v:forget] {to eat|to sleep|the time|to telephone [other]}
excited that [S.he] [~could not/cannot] {sleep|eat|sit still|speak}
cold that [S.he] [S.v:light] the fire; kind that everybody [~liked/likes] [S.him]
nervous that [S.he] [S.v:drop] {the [name:smallglass]|[own:goods]|the tray}
ill that [S.he] [S.v:stay] in bed {for a week|until Sunday|all day}
""",
    "fair": """
it [~was/is] {warm|sunny|a beautiful day|a warm evening}; the sun [~was/is] shining
the weather [~was/is] {good|fine|lovely}; the sky [~was/is] blue
""",
    "foul": """
it [~was/is] {raining|snowing|very cold|windy|foggy|raining hard}
the {roads|streets} [~were/are] icy; the snow [~was/is] deep; the wind [~was/is] {cold|strong}
there [~was/is] a {storm|thunderstorm|thick fog}; it [~was/is] too cold outside
""",
    "hindrance": """
it [~was/is] {late|getting dark|Sunday|very early}
the {road|path|way} [~was/is] {icy|very long|dark|steep}
[S.he] [S.be] {tired|ill|very busy|afraid|not well}; [#foul]
""",
    "excuse": """
it [~was/is] too {dark|late}; there [~was/is] no time
[S.he] [S.be] {ill|too busy|too tired|still at work}; [S.he] [S.have] hurt [S.his] hand
[friend] [~had/has] locked the door; nobody [~wanted/wants] to help [S.him]; [friend] [~was/is] asleep
[S.he] [S.have] promised to wait for [other]
""",
    "nearby": """
next door; across the street; in [the:building]; near the [name:water]; by the [name:stop]
behind the [name:house]; in [the:town]
""",
    "bought": "last week; in [name:city]; at the market; yesterday; from [other]",
    # An attempt and what stood in its way.
    "obstacle": """
open [the:opener], but it [~was/is] locked; catch the [name:ride], but it [~had/has] already left
telephone [other], but nobody [~answers/answers]; lift [the:furniture], but it [~was/is] too heavy
find [own:goods], but it [~was/is] too dark; sleep, but the neighbours [~were/are] too noisy
climb {the wall|[the:tree]}, but it [~was/is] too high; light the fire, but the wood [~was/is] wet
read [the:reading], but the light [~was/is] too weak; cross the river, but the water [~was/is] too deep
repair [the:machine], but [S.he] [S.v:need] {a hammer|new parts|more light|better tools}
buy [a:garment], but the shop [~was/is] closed; catch [the:bird], but it [~flew/flies] away
speak to [other], but there [~was/is] too much noise; start the car, but the engine [~was/is] cold
""",
    "purpose": """
[to:errand] to {buy [#shopping]|meet [other]|ask for help}
to the library to {read|borrow [a:=book]|study [name:subject]|find [a:=book] about [#about]}
to the kitchen to {make [some:hotdrink]|look for [some:staple]|cook dinner|wash the dishes}
to the river to {swim|fish|watch the boats|fill the bucket}
into the garden to {pick [num:flower]|water the plants|look at the stars|feed the hens|play with
  [the:pet]}
to the station to {meet [other]|buy a ticket|catch the train to [name:city]}
to the forest to {collect wood|look for mushrooms|hear the birds}
to the attic to {look for [own:handy]|hide [a:gift]|find the old photographs}
to the beach to {swim|collect shells|fly [a:=kite]|watch the sunset}
upstairs to {sleep|change [S.his] clothes|wake [other]|close the windows}
to the museum to see {[the:picture]|the old maps|the golden mask}
to the bakery to buy {bread|[num:baked]|[a:baked]}
to [name:city] to {visit [other]|study [name:subject]|sell [own:vehicle]|look for work}
""",
}
