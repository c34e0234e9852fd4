"""Phrases that the sentence patterns are made of: times, weather, feelings with their causes, obstacles, speech."""

RULES = {
    "number": "two\nthree\nfour\nfive\nsix\nten\ntwelve",
    "hours": "an hour\ntwo hours\nten hours\nhalf an hour\na long time\na few minutes",
    "about": """
the sea\nthe stars\na lonely king\na brave girl\nthe moon\ntwo brothers\na talking [name:pet]\nlove\nwinter
the old days\na lost city\nships\n[bare:wild]\n[name:city]\nthe desert\nfriendship
""",
    "swim": "river\nlake\nsea\npool\ncold water",
    "collect": "shells\nstones\nmushrooms\nfirewood\n[bare:found]\nberries",
    "slice": """
a slice of {bread|ham|cheese|cake|melon}\na piece of {cake|chocolate|pie|bread}\na bowl of [one:dish]
a bag of [many:fruit]\na sandwich\n[a:baked]
""",
    "drink": """
a cup of [one:hotdrink]\na glass of [one:colddrink]\na mug of [name:hotdrink]\na bottle of [name:colddrink]\nsome [one:colddrink]
""",
    "shopping": """
some bread\n[num:fruit]\nsome [name:staple]\nmilk and bread\na bag of flour\n[some:staple]\nsome [many:vegetable]
a kilo of [many:vegetable]\na bottle of [name:colddrink]\n[some:grocery] and [some:grocery]
""",
    "sight": "the sunset\nthe ducks\nthe new bridge\nthe old [name:building]\nthe snow\nthe boats\na rainbow",
    "from": "work\nschool\nthe [name:shop]\nthe [name:stop]\n[name:city]\nthe [name:water]",
    "hidden": """
under the bed\nunder [the:surface]\nbehind [the:hider]\nin [the:container]\nat the bottom of [the:container]
in an old [name:smallbox]\nin the [name:room]\nunder a pile of clothes\nbetween two books
""",
    "wrap": "paper\na newspaper\na towel\na blanket\nred paper",
    "day": "[S.his] birthday\nChristmas\nthe journey\nthe wedding\nthe long winter",
    # Times, by what they go with.
    "past": """
yesterday\nlast night\nlast week\nlast summer\nlast winter\nyesterday morning\nyesterday evening\non [#weekday]
on [#weekday] morning\none [#weekday] evening\ntwo days ago\na week ago\na long time ago\nthis morning\nthat evening
at [#clock]\nearly in the morning\nlate at night\nin the afternoon\nin [#month]\non the first day of [#month]\none day
in the middle of the night\nafter {lunch|dinner|breakfast|the storm|school|work}\nat {noon|midnight|dawn|dusk}
""",
    "lately": "yesterday\nlast night\nlast week\nthis morning\non [#weekday]\nyesterday evening\nafter {lunch|dinner|breakfast|school|work}",
    "future": """
tomorrow\nnext week\ntomorrow morning\non [#weekday]\nnext [#weekday]\nin an hour\nin two days\nsoon\ntonight
this evening\nat [#clock]\nbefore dinner\nafter {lunch|dinner|school|work}
""",
    "habit": """
every day\nevery morning\nevery evening\nevery [#weekday]\non [#weekday]s\nin summer\nin winter\nin the evening
before breakfast\nafter school\nonce a week\ntwice a month\nat the weekend\nwhen the sun shines
""",
    "when": "[~[#past]/[#habit]]",
    "season.time": "in summer\nin winter\nin the evening\nbefore breakfast\nafter school\nat the weekend\non [#weekday]s\nwhen the sun shines\nafter dinner\nin the morning",
    "howlong": """
all {day|night|morning|evening|afternoon}\nfor [#hours]\nuntil {midnight|dinner|late at night|it [~was/is] dark}\nfrom noon until {midnight|five o'clock}\nfrom morning until evening
""",
    "weekday": "Monday\nTuesday\nWednesday\nThursday\nFriday\nSaturday\nSunday",
    "month": "January\nMarch\nApril\nMay\nJune\nJuly\nSeptember\nOctober\nNovember\nDecember",
    "clock": "one o'clock\nsix o'clock\nseven o'clock\neight o'clock\nhalf past nine\nfour in the morning\nfive o'clock",
    "season": "spring\nsummer\nautumn\nwinter",
    "slowly": "slowly\nquietly\nquickly\ncarefully\nproudly\nsuddenly\nalone\nhappily\nin silence\nwithout a word",
    "often": "often\nusually\nsometimes\nnever\nalways\nrarely",
    # Weather as it is and what it makes people do.
    "skies": """
it [~was/is] raining\nit [~was/is] snowing\nthe sun [~was/is] shining\nit [~was/is] very {cold|hot|windy|dark|foggy}
the wind [~was/is] blowing {|hard|from the sea}\nit [~was/is] raining {heavily|hard}\nthe sky [~was/is] {blue|grey|dark|clear}
the streets [~were/are] {wet|covered with snow|empty}\nthe snow [~was/is] {deep|melting}\nthe moon [~was/is] {full|bright}
""",
    "weather.act": """
[S.v:open] [S.his] umbrella because it [~was/is] raining
[S.v:stay] at home because {it [~was/is] raining|of the storm|it [~was/is] too cold|the streets [~were/are] icy}
[S.v:put] on [a:coat] because it [~was/is] {cold|windy|snowing|freezing}
[S.v:close] {the window|the shutters|the door} because {it [~was/is] cold|the wind [~was/is] blowing|it [~was/is] raining}
[S.v:light] the fire because the [name:room] [~was/is] cold
[S.v:turn] on the lamp because it [~was/is] {getting dark|dark in the [name:room]}
[S.v:sit] in the shade because it [~was/is] so hot
[S.v:open] the window because it [~was/is] {hot|stuffy} in [the:room]
[S.v:drive] slowly because {of the fog|the road [~was/is] icy|of the heavy rain}
[S.v:take] [own:=umbrella] because {it [~was/is] raining|the sky [~was/is] grey}
""",
    # Feelings and what causes them; the cause is always the subject's own.
    "glad": "happy\nglad\nvery happy\npleased\ndelighted\nin a good mood",
    "glad.why": """
[S.he] [S.have] found [S.his] [name:tiny]\n[S.he] [S.have] {passed the exam|won the race|won a prize|got a new job}
[friend] [~had/has] come to visit [S.him]\n[friend] [~had/has] given [S.him] [a:gift]\nthe sun [~was/is] shining again
[S.he] [~could/can] [S.base:leisure] again\nit [~was/is] [S.his] birthday\n[S.he] [S.have] no homework
[friend] [~had/has] {written to [S.him]|promised to help [S.him]|invited [S.him] to dinner|come home}
the holidays [~had/have] begun\n[S.he] [S.v:like] {the new house|the new teacher|the food}\n[S.his] team [~had/has] won
""",
    "sad": "sad\nunhappy\nvery sad\nupset\nin a bad mood\ndisappointed",
    "sad.why": """
[S.he] [S.have] lost [S.his] [name:goods]\n[S.he] [~could not/cannot] find [S.his] [name:tiny]\n[S.he] [S.have] {failed the exam|lost the game|missed the train}
[friend] [~had/has] {moved away|forgotten [S.his] birthday|not written for months|broken [S.his] favourite [name:toy]}
it [~was/is] raining on [S.his] birthday\nthe summer [~was/is] over\nnobody [~wanted/wants] to play with [S.him]
[friend] [~was/is] in hospital\n[S.his] [name:pet] [~had/has] run away\n[S.he] [~had to/must] stay at home\nthe picnic [~was/is] cancelled
""",
    "cross": "angry\nannoyed\nfurious\ncross",
    "cross.why": """
[friend] [~had/has] {broken the [name:machine]|lost the keys|told a lie|eaten the last [name:baked]|forgotten the tickets}
the [name:ride] [~was/is] late again\nsomeone [~had/has] stolen [S.his] [name:=bicycle]\nnobody [~listened/listens] to [S.him]
the neighbours [~were/are] so noisy\n[the:machine] [~was/is] broken again\nthe soup [~was/is] cold
""",
    "afraid": "afraid\nscared\nfrightened\nnervous\nworried",
    "afraid.why": """
there [~was/is] a strange noise in [the:room]\nit [~was/is] dark in the [name:room]\n[friend] [~was/is] late
[S.he] [S.have] seen [a:wild] near the house\nthe exam [~was/is] very difficult\nthe ice [~was/is] thin\nthe storm [~was/is] coming closer
[S.he] [S.have] to speak in front of many people\nsomeone [~was/is] knocking at the door\nthe path [~was/is] steep and icy
""",
    "tired": "tired\nvery tired\nexhausted\nsleepy",
    "tired.why": """
[S.he] [S.have] worked all {day|night|week}\n[S.he] [S.have] walked {for hours|a long way|up the mountain}\n[S.he] [S.have] not slept well
the journey [~had/has] been long\n[S.he] [S.have] danced until midnight\n[S.he] [S.have] got up before dawn
[S.he] [S.have] carried [a:container] [to:place]\n[S.he] [S.have] been ill for a week
""",
    "proud": "proud\nvery proud\nproud and happy",
    "proud.why": """
[S.he] [S.have] {baked the cake without any help|won the first prize|learnt to [name:skill]|solved the riddle|built the boat alone}
[friend] [~had/has] won the race\nthe picture [~was/is] so beautiful\neverybody [~liked/likes] [S.his] [name:picture]
""",
    "ashamed": "ashamed\nembarrassed\nvery sorry",
    "ashamed.why": """
[S.he] [S.have] {told a lie|broken a window|forgotten the words of the song|been rude to [other]|arrived late}
[S.he] [S.have] spilled [some:hotdrink] on the carpet\neverybody [~was/is] looking at [S.him]
""",
    "bored": "bored\nvery bored",
    "bored.why": """
the {film|lesson|speech|meeting} [~was/is] too long\nthere [~was/is] nothing to do\n[S.his] friends [~were/are] away\nit [~had/has] been raining for days
""",
    "lonely": "lonely\nhomesick",
    "lonely.why": "[S.he] [S.be] far from home\n[S.he] [S.v:know] nobody in [name:city]\nall [S.his] friends [~had/have] left",
    "feeling": """
[#glad] because [#glad.why]\n[#sad] because [#sad.why]\n[#cross] because [#cross.why]\n[#afraid] because [#afraid.why]
[#tired] because [#tired.why]\n[#proud] because [#proud.why]\n[#ashamed] because [#ashamed.why]\n[#bored] because [#bored.why]
[#lonely] because [#lonely.why]\n[#glad] because [#glad.why]\n[#sad] because [#sad.why]\n[#tired] because [#tired.why]
""",
    "mood": "happy\nsad\ntired\nangry\nhungry\nworried\nbored\nlonely\nexcited\nproud\nthirsty\nnervous\ncalm\ncurious\nill",
    # A state and what one does about it.
    "remedy": """
hungry, so [S.he] [S.v:eat] {[a:fruit]|[#slice]|[a:baked]}\nthirsty, so [S.he] [S.v:drink] [#drink]\ntired, so [S.he] [S.v:go] to bed {|early|after dinner}
cold, so [S.he] [S.v:put] on [a:coat]\nbored, so [S.he] [S.do:leisure]\nlonely, so [S.he] [S.v:telephone] [other]\nill, so [S.he] [S.v:stay] in bed {|all day}
late, so [S.he] [S.v:run] [to:errand]\ncurious, so [S.he] [S.v:open] {the box|the letter|the door}\nlost, so [S.he] [S.v:ask] [other] the way
wet, so [S.he] [S.v:sit] down by the fire\nhot, so [S.he] [S.v:take] off [own:coat]
""",
    "sothat": """
tired that [S.he] [S.v:fall] asleep {at once|on the sofa|in the armchair|on the train}\nhappy that [S.he] [S.v:begin] to {sing|dance|laugh}
angry that [S.he] [S.v:leave] {the room|[the:house]|without a word}\nhungry that [S.he] [S.v:eat] {[num:baked]|two bowls of [name:dish]|everything on the table}
afraid that [S.he] [S.v:hide] {under the bed|behind [the:hider]|in the cellar}\nbusy that [S.he] [S.v:forget] {to eat|to sleep|the time|to telephone [other]}
excited that [S.he] [~could not/cannot] {sleep|eat|sit still|speak}\ncold that [S.he] [S.v:light] the fire\nkind that everybody [~liked/likes] [S.him]
nervous that [S.he] [S.v:drop] {the [name:smallglass]|[own:goods]|the tray}\nill that [S.he] [S.v:stay] in bed {for a week|until Sunday|all day}
""",
    "fair": "it [~was/is] {warm|sunny|a beautiful day|a warm evening}\nthe sun [~was/is] shining\nthe weather [~was/is] {good|fine|lovely}\nthe sky [~was/is] blue",
    "foul": """
it [~was/is] {raining|snowing|very cold|windy|foggy|raining hard}\nthe {roads|streets} [~were/are] icy\nthe snow [~was/is] deep
the wind [~was/is] {cold|strong}\nthere [~was/is] a {storm|thunderstorm|thick fog}\nit [~was/is] too cold outside
""",
    "hindrance": """
it [~was/is] {late|getting dark|Sunday|very early}\nthe {road|path|way} [~was/is] {icy|very long|dark|steep}\n[S.he] [S.be] {tired|ill|very busy|afraid|not well}\n[#foul]
""",
    "excuse": """
it [~was/is] too {dark|late}\nthere [~was/is] no time\n[S.he] [S.be] {ill|too busy|too tired|still at work}\n[S.he] [S.have] hurt [S.his] hand\n[friend] [~had/has] locked the door
nobody [~wanted/wants] to help [S.him]\n[friend] [~was/is] asleep\n[S.he] [S.have] promised to wait for [other]
""",
    "nearby": "next door\nacross the street\nin [the:building]\nnear the [name:water]\nby the [name:stop]\nbehind the [name:house]\nin [the:town]",
    "bought": "last week\nin [name:city]\nat the market\nyesterday\nfrom [other]",
    # An attempt and what stood in its way.
    "obstacle": """
open [the:opener], but it [~was/is] locked\ncatch the [name:ride], but it [~had/has] already left\ntelephone [other], but nobody [~answers/answers]
lift [the:furniture], but it [~was/is] too heavy\nfind [own:goods], but it [~was/is] too dark\nsleep, but the neighbours [~were/are] too noisy
climb {the wall|[the:tree]}, but it [~was/is] too high\nlight the fire, but the wood [~was/is] wet\nread [the:reading], but the light [~was/is] too weak
cross the river, but the water [~was/is] too deep\nrepair [the:machine], but [S.he] [S.v:need] [a:tool]\nbuy [a:garment], but the shop [~was/is] closed
catch [the:bird], but it [~flew/flies] away\nspeak to [other], but there [~was/is] too much noise\nstart the car, but the engine [~was/is] cold
""",
    "purpose": """
[to:errand] to {buy [#shopping]|meet [other]|ask for help}\nto the library to {read|borrow [a:=book]|study [name:subject]|find [a:=book] about [#about]}
to the kitchen to {make [some:hotdrink]|look for [some:staple]|cook dinner|wash the dishes}\nto the river to {swim|fish|watch the boats|fill the bucket}
into the garden to {pick [num:flower]|water the plants|look at the stars|feed the hens|play with [the:pet]}
to the station to {meet [other]|buy a ticket|catch the train to [name:city]}\nto the forest to {collect wood|look for mushrooms|hear the birds}
to the attic to {look for [own:handy]|hide [a:gift]|find the old photographs}\nto the beach to {swim|collect shells|fly [a:=kite]|watch the sunset}
upstairs to {sleep|change [S.his] clothes|wake [other]|close the windows}\nto the museum to see {[the:picture]|the old maps|the golden mask}
to the bakery to buy {bread|[num:baked]|[a:baked]}\nto [name:city] to {visit [other]|study [name:subject]|sell [own:vehicle]|look for work}
""",
}
