"""How sentences are built about things, animals and the weather, and how things are compared."""

PATTERNS = {
    "things": """
There [~was/is] [a:anything] [at:place].
There [~was/is] [a:furniture] {in the [name:room]|near [the:opener]|by the fire}.
There [~were/are] [num:tiny] in [the:smallbox].
There [~were/are] no [many:fruit] left {in the kitchen|in the basket|at the market}.
There [~was/is] nothing in [the:container] except [a:tiny].
On [the:surface] [~lay/lies] [a:goods].
On [the:surface] [~stood/stands] {[a:smallglass]|a lamp|[a:picture]|a bowl of [many:fruit]}.
Under [the:tree] [~sat/sits] [a:wild].
Behind [the:building] [~was/is] a {garden|well|small pond|narrow path}.
[the:opener] [~was/is] {locked|open|painted green|closed|too narrow}.
The [name:anything] [~was/is] {broken|new|expensive|very old|too small|almost new|for sale} {|and very
  heavy|but still useful|}.
[the:container] [~was/is] {full of|filled with} [many:fruit].
[the:smallbox] [~was/is] full of [many:tiny].
[the:dish] [~smelled/smells] {delicious|strange|good} {|and [~tasted/tastes] even better|because [friend]
  [~had/has] added some herbs}.
The [name:baked] [~tasted/tastes] {of honey|of lemon|delicious|sweet|better than yesterday}.
The [name:garment] [~was/is] too {big|small|long|expensive|warm} for [other].
The [name:furniture] [~was/is] made of {wood|old oak|dark wood|iron}.
[the:building] [~stood/stands] {on a hill|by the [name:water]|at the end of the street|in the middle of
  [the:green]}.
[the:building] [~had/has] {a red roof|thick walls|a small garden|twelve rooms|a tall chimney}.
The [name:machine] {stopped|started|fell from [the:surface]|disappeared|broke} [#past].
[the:opener] opened {slowly|with a loud noise|by itself|suddenly}.
The {bell|telephone} rang {twice|in the [name:room]|at [#clock]|in the middle of the night}.
The [name:ride] [~arrived/arrives] at [#clock] {|every day|every morning|from [name:city]}.
The [name:vehicle] {stopped|broke down|disappeared|turned} {in front of [the:building]|near the bridge|
  behind [the:building]}.
[the:anything] [~cost/costs] {ten pounds|twenty pounds|too much|more than [the:anything]|almost nothing}.
The [name:goods] on [the:surface] [~belonged/belongs] to [other].
[the:route] [~led/leads] {to [the:building]|through [the:green]|to the [name:water]|from [the:building]
  to the [name:stop]}.
[the:plant] in the garden [~was/is] {in bloom|full of bees|almost dead|older than the house}.
The leaves of [the:tree] [~were/are] {red|yellow|falling|green again}.
Nothing in [the:room] [~was/is] {new|in its place|clean|mine}.
The {old|new|little|big} [name:shop] [~sold/sells] {[many:fruit] and [many:vegetable]|[many:toy]|hats and
  [many:footwear]|[name:staple] and [many:baked]|old [many:furniture]}.
In [the:room] [~hung/hangs] [a:picture] of {the [name:view]|[a:animal]|[other]}.
""",
    "made": """
[the:reading] was written by [A.obj:third] {|in [name:city]|many years ago|in one night}.
[the:picture] was painted {by [A.obj:third]|in [name:city]|for [A.obj:third]|many years ago}.
[the:building] was {built|sold|painted white|burnt down|repaired} {in [#month]|last year|many years ago|
  last summer}.
The [name:baked] was baked by [A.obj:third] {|for the party|this morning}.
The [name:opener] was {closed|opened|painted|broken|locked} by [A.obj:third] {|at [#clock]|yesterday|last
  night}.
The [name:goods] was found {[#hidden]|by [other]|in the snow|at last}.
[A] [A.was] {invited|taken|sent} to [the:occasion] by [B.obj].
[A] [A.was] given [a:gift] by [B.obj] {|for Christmas|last year|before the journey}.
The [name:vehicle] will be {repaired|sold|washed|painted} [#future].
[bare:fruit] are sold {at the market|in every supermarket|by the kilo|in small bags|at the [name:stop]}.
The letters {were|are} {written|read|kept|hidden} {in a drawer|by [other]|in [the:container]}.
Breakfast is served {at [#clock]|in [the:room]|on the balcony}.
""",
    "weather": """
It {rained|snowed} {all day|all night|for [#hours]|in the morning|again} {|in [name:city]|in the
  mountains|on the coast}.
It will {rain|snow|be cold|be warm|be windy} [#future] {|in [name:city]|in the mountains|on the coast}.
It [~was/is] {cold|warm|hot|windy|foggy|sunny|quiet} {in [name:city]|in [the:green]|by the [name:water]|
  on the island} {|in [#season]|this morning|all week}.
A {cold|strong|warm|light} wind [~blew/blows] {from the sea|over the hills|through the streets|from the
  mountains} {|[#when]}.
The sun [~rose/rises] {over|behind} {the hills|the sea|[the:building]|the roofs of [name:city]|the
  mountains}.
The moon [~shone/shines] {over the [name:water]|through the window|on the snow|above [the:building]}.
The stars [~were/are] {bright|hidden behind clouds|beautiful} {tonight|above the [name:view]|over
  [name:city]}.
{Thunder|A storm|Thick fog} [~came/comes] {over the hills|from the sea|before sunrise|in the night}.
Snow {covered|lay on} {the roofs|the fields|[the:building]|the road to [name:city]} {|in January|in
  December|this morning|all winter}.
The {river|lake|pond} [~froze/freezes] {in January|every winter|when the nights [~were/are] very cold}.
In {spring|April|May}, the [many:flower] bloom and the birds build their nests.
In autumn, the leaves {turn red|fall from the trees} and the {nights grow longer|birds fly south}.
In {summer|July}, the days are long and the children play {outside|in the [name:green]} until {dark|late}.
After the {storm|rain}, {there was a rainbow over the [name:view]|the streets were wet|the air was fresh|
  the sun came out again}.
It [~was/is] so {cold|hot|foggy|dark|windy} that [A:third] [A.v:stay] at home.
When the {sun [~set/sets]|rain [~stopped/stops]}, {the children [~went/go] home|[A] [A.v:walk] [to:open]|
  the birds [~began/begin] to sing}.
The weather in [name:city] [~was/is] {better|worse|colder|warmer} than in [name:city].
What a {cold|beautiful|windy|long|warm|rainy} {day|night|morning|evening|winter} it was {|in [name:city]|
  in the mountains}!
It [~was/is] such a {cold|beautiful|windy|warm|rainy} {day|night|morning|evening} that [A:third]
  [A.v:stay] {at home|in the garden|by the window}.
""",
    "animals": """
[A:animal] [A.do:job].
[A:animal] [A.prog:job].
[#when], [A:animal] [A.do:job].
Every {morning|evening|night}, [A:animal] [A.does:job].
[A:animal] [A.do:job], and [B] [B.do:react].
When [A:animal] [A.do:job], [B] [B.do:react].
While [B] [B.was] [B.ing:busy], [A:animal] [A.did:job].
[B] [B.v:see] {[a:wild]|[a:bird]|[a:farmanimal]|[a:horse]} {[at:green]|by the [name:water]|on the way
  home|through the window}.
[B] [B.v:have] [a:pet] {named|called} {Max|Snow|Luna|Coco|Pepper|Button|Shadow}.
[B.own] [name:pet] [~was/is] {hungry|asleep|ill|very clever|afraid of [bare:insect]|older than [other]}.
[A:animal] [A.v:hide] because it [~was/is] afraid of {[B.obj]|the noise|the storm|the dark}.
[A:animal] [A.be] {hungry|afraid|tired|thirsty|asleep|too young to fly|hiding somewhere}.
[num:wild] [~lived/live] {in the forest|near [the:building]|in the mountains|behind the hill}.
[B] [B.v:feed] {[the:bird]|[the:horse]|[the:pet]|[the:farmanimal]} {every morning|in winter|from [B.his]
  hand|when nobody [~was/is] looking}.
[B] {can|could} hear [a:wild] {outside|in the dark|from [B.his] bed|behind the fence}.
[A:animal] will not {hurt you|bite|come closer|move} if you {stand still|are quiet|speak softly|keep
  calm}.
[bare:wild] {sleep during the day|live in the forest|are rarely seen near [the:building]|eat more in
  autumn}.
""",
    "compared": """
[A] [A.be] {taller|older|younger|stronger|faster|more patient|happier|more careful} than [B.obj].
[A] [A.be] {as|not as} {tall|old|strong|fast|patient|brave|tired|curious} as [B.obj].
[A:third] can {run|swim|sing|dance|cook|read|draw} {better|faster} than [B.obj].
[A] [A.be] the {tallest|youngest|fastest|kindest|cleverest|strongest|oldest} {in the class|in the village|
  of all|in the family}.
[the:furniture] [~was/is] {heavier|older|cheaper|larger|newer|smaller} than [the:furniture].
[the:building] [~was/is] {older|taller|larger|more beautiful} than [the:building].
The {red|old|small|new} [name:vehicle] [~was/is] {faster|slower|cheaper|more comfortable} than the {blue|
  green|other|white} one.
[name:city] is {more beautiful|quieter|noisier|more interesting} than {[name:city]|[A.own:kin] village|we
  thought|in the old days}.
An elephant is {bigger|heavier|stronger} than {[a:pet]|[a:farmanimal]|[a:bird]|a lion|[a:horse]}.
A {train|plane} is {faster|more expensive} than a {bicycle|bus|boat|tram}.
[A] [A.v:prefer] {[name:hotdrink] to [name:colddrink]|[many:fruit] to [many:fruit]|[name:city] to
  [name:city]|[name:subject] to [name:subject]}.
[A] [A.v:like] {[bare:fruit]|[bare:baked]|[name:dish]|[bare:vegetable]} better than {[name:staple]|
  [bare:vegetable]|[bare:fruit]}.
The longer [A] [A.v:wait], the more {tired|nervous|impatient|worried} [A.he] [A.v:become].
[A] [A.v:have] {more|fewer} {books|friends|coins|stamps|toys|[many:tiny]} than [B.obj].
This [name:goods] is {more useful|older|prettier|stranger} than {that one|the one in [the:container]|the
  one that [A] lost}.
[A] [A.v:eat] {more|less} [name:staple] than [B.obj].
[A.own:name] [name:garment] [~was/is] {newer|older|warmer|longer|more expensive} than [B.own].
That was the {best|worst|longest|strangest|funniest} {story|film|day|party|journey|lesson} {of the year|
  in a long time|of all}.
[the:tiny] [~was/is] too small for {[the:container]|[other]|a child}.
[the:furniture] [~was/is] much too {heavy|big} for {[other]|[the:room]}.
""",
}
