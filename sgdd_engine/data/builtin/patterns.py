"""How sentences are built when somebody does, feels, plans or knows something; one pattern a line."""

PATTERNS = {
    "plain": """
[A] [A.do:any].
[A] [A.do:any] [#when].
[#when], [A] [A.do:act].
[A] [#slowly] [A.do:act].
[A] [A.prog:busy].
[A] [A.not:act].
[A] [A.dont] [A.nbase:any] [#when].
[A] [A.have] {already|just} [A.done:act].
[A] will [A.base:act] [#future].
[#future], [A] will [A.base:act].
[A] [#often] [A.does:act] [#season.time].
[A:third] [#often] [A.does:act].
[A:worker] [A.do:job].
[A:worker] [A.do:job].
[A:worker] [A.prog:job].
[#past], [A:worker] [A.did:job].
[A:worker] [A.do:job] while [B] [B.prog:busy].
When [A] [A.did:arrive], [B:worker] [B.was] [B.ing:job].
[A] used to [A.base:hobby] [#habit].
[A] [A.is] going to [A.base:act] [#future].
[A] [A.be] busy {in the [name:room]|with [the:machine]|in the garden}.
[A] [A.was] still [A.ing:busy] at midnight.
[A] [A.do:give].
[A] [A.do:give] [#when].
[A] [A.do:meet].
[A] [A.do:consume].
[A] [A.do:lasting] [#howlong].
[A] [A.do:lasting] [#howlong].
[#when], [A] [A.do:lasting].
[A] [A.do:move].
""",
    "joined": """
[A] [A.do:any] and [A.do:any].
[A] [A.do:act] and then [A.do:settle].
[A] [A.do:home], [A.do:trade] and [A.do:leisure].
[A] [A.do:act], but [B] [B.do:act].
[A] [A.do:busy] while [B] [B.prog:busy].
While [A] [A.prog:busy], [B] [B.do:act].
[A] [A.do:act], and [B] [B.do:act].
[A] [A.do:act] before [A.he] [A.do:act].
Before [A.ing:act], [A] [A.do:act].
After [A.ing:act], [A] [A.do:act].
After [A] [A.perf:act], [A.he] [A.do:any].
When [A] [A.do:meet], [A.he] [A.do:react].
When [A] [A.did:arrive], [B] [B.was] [B.ing:busy].
When [B] [B.was] a child, [B.he] often [B.did:hobby].
As soon as [A] [A.do:arrive], [A.he] [A.do:act].
[A] [A.do:busy] until [B] [B.do:arrive].
[A] [A.do:task] without {any help|a word|looking up|making a sound|asking [other]|saying anything}.
[A] [A.do:act] instead of [A.ing:home].
First [A] [A.do:home], then [A.he] [A.do:leisure].
Neither [A:name] nor [B:name] [C.bind:they]wanted to [C.nbase:home].
[A] not only [A.did:home] but also [A.did:home].
On [#weekday]s, [A] either [A.does:hobby] or [A.does:hobby].
Every time [A] [A.do:arrive], [A.he] [A.do:consume].
[A.ing:react], [A] [A.do:handle].
[A.ing:rest], [A] [A.did:think].
[A] [A.do:leisure], and so [~did/[B.does]] [B].
[A] [A.dont] [A.nbase:act] because [B] [B.have] already [B.done:help].
""",
    "reasons": """
[A] [A.be] [#feeling].
[A] [A.be] [#feeling].
[#when], [A] [A.be] [#feeling].
[A] [A.be] [#remedy].
[A] [A.be] so [#sothat].
[A] [#weather.act].
[A] [#weather.act].
[A] [A.do:outdoor] because [#fair].
When [quote:fair], [A] [#often] [A.does:outdoor].
When it rains, [A] [#often] [A.does:indoor].
Because [#foul], [A] [A.do:indoor].
[A] [A.do:indoor] because [#foul].
Although [#foul], [A] [A.do:outdoor].
[A] [A.do:move] although [#hindrance].
Although [A] [A.be] {tired|ill|busy|hungry|old}, [A.he] [A.do:task].
If it rains [#future], [A] will [A.base:indoor].
If the weather is good, [A] will [A.base:outdoor] [#future].
If [A] had more {time|money|patience}, [A.he] would [A.base:hobby].
[A] [A.v:want] to [#obstacle].
[A] [A.v:try] to [#obstacle].
[#when], [A] [A.v:try] to [#obstacle].
[A] [A.v:go] [#purpose].
[A] [A.v:go] [#purpose].
[#when], [A] [A.v:go] [#purpose].
[A] will go [#purpose] [#future].
[A] [A.v:need] {a hammer|a saw|a ladder|some rope|some nails|a long rope|better tools} to {mend|repair}
  {the roof|the fence|[the:machine]|the gate}.
[A] [A.v:feel] [#mood] {|after the journey|in the morning|without [other]|again}.
[A] [A.v:look] [#mood], but [A.he] [A.v:say] nothing.
[A] [A.v:seem] to be [#mood] {|today|again|this morning}.
Nobody knew why [A] [A.was] so [#mood].
[A] [A.v:make] [other] {happy|laugh|smile|angry|very proud}.
""",
    "minds": """
[A] [A.v:decide] to [A.base:act].
[A] [A.v:decide] not to [A.nbase:act].
[A] [A.v:begin] to [A.base:busy].
[A] [A.v:stop] [A.ing:busy] when [B] [B.do:arrive].
[A] [A.v:forget] to [A.base:task].
[A] [A.v:remember] to [A.base:task] {at last|just in time|before the guests [~came/come]}.
[A] [A.v:hope] to [A.base:project] {one day|soon|}.
[A] [A.v:promise] [B.obj] to [A.base:task].
[A] [A.v:ask] [B.obj] to [B.base:task].
[A] [A.v:tell] [B.obj] to [B.base:task].
[A] [A.v:want] [B.obj] to [B.base:act].
[A] [A.v:help] [B.obj] to [B.base:home].
[A] [A.v:watch] [B.obj] [B.ing:busy].
[A] [A.v:see] [B.obj] [B.ing:leisure].
[A] [A.v:let] [B.obj] [B.base:leisure].
[A] [A.v:know] that [B] [B.perf:act].
[A] [A.v:think] that [B] [B.be] [#mood].
[A] [A.v:think] that [B] [~would/will] [B.base:act].
[A] [A.v:hear] that [B] [B.perf:act].
[A] [A.v:wonder] {why|when} [B] [B.perf:act].
[A] [A.v:wonder] whether [B] [~would/will] [B.base:act].
[A] [A.v:like] [A.ing:hobby].
[A] [A.v:like] [A.ing:hobby] more than [A.ing:hobby].
[A] [A.v:love] {[bare:fruit]|[name:dish]|[name:city]|[bare:pet]|the smell of fresh bread|[name:subject]|
  [name:game]}.
[A] [A.dont] like {[bare:vegetable]|[name:dish]|[bare:insect]|[name:subject]|getting up early|loud music}
  {|at all|very much}.
[A] [A.v:dream] of [A.ing:project].
[A] [A.v:enjoy] [A.ing:hobby] {|in [#season]|on Sundays|after dinner}.
[A] [A.v:learn] to [name:skill] {when [A.he] [A.be] in [name:city]|in [#season]|from [other]|at school}.
It [~took/takes] [A.obj:third] [#hours] to [A.base:home].
[A] [A.v:spend] [#hours] [A.ing:lasting].
[A] [A.v:invite] [B.obj] to {[the:occasion]|dinner|the wedding|lunch|[A.his] birthday party}.
[A] [A.v:thank] [B.obj] for {[the:gift]|the help|everything|the lovely evening|[B.his] kind words|the
  letter}.
[A] [A.v:say] that [A.he] [A.be] [#feeling].
[A] [A.v:explain] that [A.he] [~could not/cannot] [A.nbase:act] because [#excuse].
[A] [A.v:admit] that [A.he] [A.perf:mishap].
[A] [A.v:ask] [B.obj] {where [A.he] [~could/can] {buy [#shopping]|find [a:tool]|wait for the [name:ride]}|
  how far it [~was/is] to [name:city]}.
""",
    "plans": """
[A] can [name:skill] {very well|like a champion|as well as [other]|a little|better than [other]}.
[A] cannot [name:skill] {very well|yet|at all|as well as [other]}.
[A] {must|should|ought to} {be more careful|rest more|eat more [many:fruit]|write to [other] more often|
  sleep longer}.
[A] [~could not/cannot] [A.nbase:act] because [#excuse].
[A] {may|might} [A.base:act] [#future].
[A] should [A.base:task] before [A.he] [A.does:leave].
[A] must [A.base:task] {today|first|before dinner|at once}.
[A] had to [A.base:task] {yesterday|first|alone|before dinner}.
[A] would like to [A.base:act] [#future].
[A] would rather [A.base:leisure] than [A.base:home].
[A] [A.is] too {young|tired|busy|ill} to [A.nbase:leisure].
[A] [A.was] too {tired|busy|ill|shy|nervous} to [A.nbase:leisure].
[A:name] [A.is] old enough to [A.base:task] alone.
[A] [A.has] been [A.ing:lasting] {since {noon|Monday|breakfast|five o'clock}|for [#hours]}.
[A] [A.has] never [A.ndone:act].
[A] had never [A.ndone:leisure] before.
By [#clock], [A] had already [A.done:act].
{Next {year|summer|month}|In two years|One day}, [A] will [A.base:project].
[A] [A.is] going to [A.base:project] {next {year|summer|month}|one day|in two years}.
[A] [A.is] [A.ing:busy] {now|at the moment|right now}.
{Tonight|Tomorrow|On [#weekday]}, [A] [A.is] going to [A.base:act].
[A.ing:hobby] is [A.own:name] favourite hobby.
""",
    "mishaps": """
[A] [A.do:mishap].
[A] [A.did:mishap] [#past].
[#past], [A] [A.did:mishap].
[A] [A.do:accident] while [A.he] [A.prog:chore].
[A] [A.do:stumble] while [A.he] [A.prog:way].
While [A.ing:chore], [A] [A.do:accident].
While [A.ing:way], [A] [A.do:stumble].
On the way {home|to [the:building]|to school|to work}, [A] [A.do:stumble].
[A] [A.v:look] for [own:goods], but [A.he] [~could not/cannot] find {it|it anywhere}.
[A] [A.v:find] [own:goods] [#hidden].
[A] [A.v:find] [a:goods] that {[B] [B.have] lost|[~belonged/belongs] to [other]}.
[A] [A.have] been looking for [A.his] [name:tiny] all day, but it [~was/is] in [A.his] pocket.
""",
    "who": """
{The man [A.bind:he]|The woman [A.bind:she]|The boy [A.bind:he]|The girl [A.bind:she]} who [A.v:live]
  [#nearby] [A.do:act].
{Somebody|Someone|Everybody|Nobody} [A.bind:someone][A.did:any] [#past].
{Somebody|Someone} [A.bind:someone][A.have] [A.done:handle].
[A:third], who [A.be] [#mood], [A.do:any].
[A:name], who lives in [name:city], often [A.does:move].
[A:worker], who lives [#nearby], [A.do:job].
[A] [A.v:read] the [name:note] that [B] [B.have] written.
[A] [A.v:wear] the [name:coat] that [B] [B.have] bought in [name:city].
[A] [A.v:eat] the [name:baked] that [B] [B.have] baked.
[A] [A.v:visit] [the:building] where [B] [B.v:live].
The [name:anything] that [A] bought [#bought] was {too expensive|very useful|already broken|quite small}.
The [name:gift] that [A] gave [B.obj] was {beautiful|broken|too small|wrapped in red paper|very old}.
This is the [name:building] where [A] used to {live|work|read old books|wait for [other]|paint|play with
  [other]|sleep}.
It was [A:third] who [A.did:act].
[A] [A.v:know] {a man|a woman|a girl|a boy} who [~could/can] [name:skill] {very well|better than anyone|
  like a champion}.
One of [A.own:name] {friends|brothers|sisters|neighbours} [B.bind:someone][B.do:act].
Both [A:name] and [B:name] [C.bind:they][C.do:act].
Most of the {children|guests|students|farmers} [C.bind:they][C.do:any].
The {whole village|whole family|whole class} came to see [the:occasion].
The {children|students|tourists} who [~were/are] staying {in|near} [the:building]
  [C.bind:they][C.do:leisure].
The [name:tool] with which [A] [A.v:work] [~was/is] {old|very heavy|almost new|made of iron}.
""",
    "long": """
When [A] [A.did:arrive], [B] [B.was] [B.ing:busy], so [A.he] [A.did:act].
[A] [A.do:act], but [B] [B.v:want] to [B.base:leisure], so [B.he] [B.do:settle].
[A] [A.do:home], and when [A.he] [A.have] finished, [A.he] [A.do:leisure].
[#past], while [A] [A.was] [A.ing:busy], [B] [B.did:act] and [B.did:react].
Because [#foul], [A] [A.do:indoor] and [A.do:indoor] until [B] [B.do:arrive].
[A] [A.be] [#feeling], so [A.he] [A.do:settle].
[A] [A.v:want] to [#obstacle], so [A.he] [A.do:act] instead.
[A] [A.v:promise] to [A.base:task] as soon as [B] [B.have] [B.done:act].
If [A] [A.does:task], [B] will [B.base:act] and [B.base:give].
[#when], [A] [A.do:act], [A.do:act] and [A.do:settle].
[A] [A.v:tell] [B.obj] that [A.he] [A.have] [A.done:act], but [B.he] [B.dont] believe [A.him].
Before [A] [A.do:leave], [A.he] [A.do:home] and [A.v:ask] [B.obj] to [B.base:task].
After [A] [A.perf:act], [A.he] [A.v:go] [#purpose].
[A:worker] [A.do:job], and {then|afterwards|in the evening|after work} [A.he] [A.do:settle].
Although [A] [A.be] {tired|ill|busy}, [A.he] [A.do:act] before [A.he] [A.do:settle].
Every [#weekday], [A] [A.does:move] and [A.does:consume], while [B] [B.does:home].
[A] [A.v:think] that [B] [~would/will] [B.base:act], but [B.he] [B.do:settle].
[A] [A.v:say] that [A.he] [~could not/cannot] [A.nbase:act] because [A.he] [A.have] [A.done:mishap].
{The man [A.bind:he]|The woman [A.bind:she]} who [A.v:live] [#nearby] [A.do:act] whenever [B]
  [B.do:arrive].
It [~was/is] so cold in [the:room] that [A:third] [A.v:light] the fire and [A.v:make] [some:hotdrink] for
  [other].
It [~was/is] so hot in [the:room] that [A:third] [A.v:open] {the window|the door} and [A.v:drink]
  [#drink].
It [~was/is] so quiet in [the:room] that [A:third] [A.v:fall] asleep {|in the armchair|on the sofa} and
  [A.v:dream] of [the:place].
When [quote:skies], [A] [#often] [A.does:indoor] and [A.does:consume].
[A] [A.v:hope] that [B] [~would/will] [B.base:act] {|as soon as possible|before it [~was/is] too late}.
"^[quote:say]," [A] [A.v:tell] [B.obj], and then [A.he] [A.do:settle].
[A] [A.v:ask] [B.obj] whether [B.he] [~would/will] [B.base:act], but [B.he] only [B.do:gesture].
Not far from [the:building], {near [the:route]|behind [the:green]}, [A:third] [A.v:find] [a:goods] and
  [A.v:take] it home.
""",
}
