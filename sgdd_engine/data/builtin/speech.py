"""What people say, ask and order, and how a sentence reports it; one template a line.

In direct speech `I`, `W` and `Y` are the speaker, the speakers and whoever is spoken to; `Q` is talked about.
"""

RULES = {
    "say": """
[I] {am|was} [#mood]; [I] am [#feeling]; [I] have lost [I.his] [name:tiny]
[I] cannot find [I.his] [name:goods] {|anywhere}; [I] have never [I.ndone:act]
[I] have just [I.done:move]; [I] have already [I.done:home]; [I] will [I.base:act] [#future]
[I]'ll [I.base:act] [#future]; [I] am going to [I.base:act] [#future]
[I] {don't|do not} want to [I.nbase:home]; [I] would like to [I.base:leisure]
[I] {don't|do not} know where [I.his] [name:goods] is; [I] [I.did:act] [#past]; [I] [I.did:mishap]
[I] love [bare:fruit]; [I] think that [Q:third] [Q.is] [#mood]
[I] am too {tired|busy|ill} to [I.base:leisure]; [I] saw [Q.obj:third] [at:place] [#past]
[W] should [W.base:act] before it gets dark; [W] must [W.base:home] first
[W] are {late|early|lost|almost home}; [W] are going to [W.base:move] [#future]
[W] have no [name:staple] left; [Y] look [#mood]; [Y] must [Y.base:home] first
[Y] can [Y.base:together] with us; [Y] forgot to [Y.base:home]
[Y] should not [Y.base:outdoor] because [#foul]; [Q:third] [Q.has] [Q.done:act]
[Q:third] will [Q.base:act] [#future]; [Q:third] [Q.is] [#mood]; [Q:third] told me to [I.base:task]
the [name:ride] leaves at [#clock]
the [name:shop] is closed {today|on [#weekday]s|until [#weekday]}
there is {[a:pet]|[a:bird]|[a:insect]} in [the:room]; there is no [name:staple] in the kitchen
it is [#hotcold] {here|outside|in [the:room]}; it is time to {go home|go to bed|have dinner|get up|leave}
[#skies]; my [name:machine] is broken {|again}; this is the best [name:baked] in [name:city]
this [name:goods] is mine; nobody lives in [the:building]; somebody has stolen my [name:tiny]
that is a good idea; everything will be fine; dinner is ready
[the:picture] is {beautiful|very old|not for sale}
""",
    "ask": """
where is {my|the|your} [name:goods]; where did you {find|buy|put} [the:goods]; what are you looking for
what is in [the:container]; why are you [Y.ing:busy]; why are you so [#mood]; why is [Q:name] so [#mood]
do you want to [Y.base:together] {|with me|with us|tonight|after dinner}
do you like {[bare:fruit]|[name:dish]|[name:city]|my new [name:garment]}
can you [Y.base:task]; could you help me to [Y.base:home]
have you seen {my [name:goods]|[Q.obj:third]|the [name:pet]}
have you ever [Y.done:act]; did you [Y.base:act] [#lately]; when will you [Y.base:act]
when does the [name:ride] leave; who has {broken|taken|found} [the:goods]
who is waiting {at the door|for us|[at:place]}; how much does [the:anything] cost
how far is it to {[name:city]|[the:building]|the [name:stop]}
how many [many:fruit] do you need; what time is it; would you like [#drink]; shall we [W.base:together]
may I [I.base:leisure]; is there any [name:staple] left; is [Q:name] [#mood]
will you [Y.base:act] [#future]; must I [I.base:home]; are you [#mood]; what did [Q:third] say
whose [name:goods] is this
""",
    "order": """
[Y.base:task]; please [Y.base:task]; don't forget to [Y.base:task]; don't [Y.nbase:mishap]
let us [W.base:together]; let's [W.base:together] {|together|after dinner}
come {here|in|with me|home before dark|and help me}
be {careful|quiet|patient|brave|kind to [Q.obj:third]}; wait for {me|us|[Q.obj:third]}
tell me {the truth|a story|about [the:topic]|what you want|everything}
look at {that [one:wild]|this [name:tiny]|the sky|me}
stop {crying|laughing|shouting|playing with [the:goods]}; never [Y.base:never]
give me {my [name:goods]|[a:tool]|[#slice]|your hand}
""",
    "exclaim": """
what a {beautiful|strange|lovely|funny} [name:goods]
what a {beautiful day|terrible storm|lovely surprise|long journey|strange noise}
how {tall|clever|kind|brave} you are; happy birthday; good morning; help me; look at that [one:animal]
[the:building] is on fire; there is [a:wild] in the garden; we have won; I have found [I.his] [name:goods]
it is snowing
""",
    "opener": """
well; yes; no; of course; I am sorry; look; listen; to be honest; my friend; you know
""",
    # Questions with the answers that fit them.
    "where": """
where is {my|your|the} [name:goods]; where did you find [the:tiny]
where can I {find|put|hide} [the:goods]; where is [Q:name]; where did you put [the:tool]
""",
    "there": """
in [the:room]; under {the bed|the table|[the:tree]}; on [the:surface]; [I] don't know; ask [other]
behind [the:hider]; nobody knows; not far from here
""",
    "whether": """
did you [Y.base:home]; have you seen {my [name:goods]|the [name:pet]|[Q.obj:name]}
is there any [name:staple] left; has [Q:name] [Q.done:task]; have you already [Y.done:home]
""",
    "yesno": """
yes, of course; no, not yet; I am not sure; no, not today; I think so; ask me tomorrow; I don't think so
""",
    "offer": """
do you want to [Y.base:together]; can you help me to [Y.base:home]; would you like [#drink]
will you [Y.base:task] [#future]; shall we [W.base:together] [#future]
""",
    "accept": """
with great pleasure; yes, please; maybe later; no, thank you; yes, but not now; not today; of course
""",
    "time": """
when will you [Y.base:act]; when does the [name:ride] leave; when can we [W.base:together]
when does the [name:shop] open; when is [the:occasion]
""",
    "then": """
[#future]; [#future]; as soon as possible; I don't know; after lunch; ask [other]
""",
    "reason": """
why are you so [#mood]; why didn't you [Y.nbase:home]; why are you crying; why can't you sleep
""",
    "cause": """
[I] have lost [I.his] [name:goods]; it is too {cold|hot|noisy} {here|in [the:room]}
[I] {am tired|was ill|had no time|had a strange dream}; [friend] told me a {secret|strange story}
nobody wants to help me; I have to {speak|leave|get up early} [#future]; I miss [other]
""",
    "hotcold": "cold; hot; dark; late; too late; warm; so quiet; too cold",
    "said": """
[S.v:say]; [S.v:say]; [S.v:answer]; [S.v:whisper]; [S.v:shout]; [S.v:reply]; [S.v:explain]
[S.v:say] [#saidhow]
""",
    "asked": "[S.v:ask]; [S.v:ask]; [S.v:whisper]; [S.v:ask] [#saidhow]; [S.v:want] to know",
    "shouted": "[S.v:shout]; [S.v:cry]; [S.v:call]; [S.v:call] from the [name:room]",
    "saidhow": """
quietly; softly; slowly; with a smile; in a low voice; at last; after a while; sadly; angrily; kindly
politely
""",
}

PATTERNS = {
    "dialogue": """
"^[quote:say]," [A:speaker] [#said].
"^[quote:say]," [A:speaker] [#said].
"^[quote:say]," [A:speaker] [A.v:tell] [B.obj].
"^[quote:say]," {said|whispered|answered|replied} [A:single].
[A:speaker] [#said], "^[quote:say]."
[A:speaker] [A.v:tell] [B.obj], "^[quote:say]."
[A:speaker] [A.v:look] at [B.obj] and [A.v:say], "^[quote:say]."
[A:speaker] [A.v:smile] and [A.v:say], "^[quote:say]."
[A:speaker] [A.v:open] the door and [A.v:say], "^[quote:exclaim]!"
"^[quote:opener]," [A:speaker] [A.v:say], "[quote:say]."
"^[quote:opener], [quote:say]," [A:speaker] [#said].
"^[quote:ask]?" [A:speaker] [#asked].
"^[quote:ask]?" [A:speaker] [#asked].
"^[quote:ask]?" asked [A:single].
"^[quote:ask]?" [A:speaker] [A.v:ask] [B.obj].
"^[quote:ask], [V:name]?" [A:alone] [A.v:ask].
[A:speaker] [A.v:ask], "^[quote:ask]?"
[A:speaker] [A.v:ask] [B.obj], "^[quote:ask]?"
"^[quote:order]," [A:speaker] [A.v:say] {|to [B.obj]}.
"^[quote:order]," [A:speaker] [A.v:tell] [B.obj].
"^[quote:order], [V:name]," [A:speaker] [#said].
"^[quote:order]!" [A:speaker] [#shouted].
"^[quote:exclaim]!" [A:speaker] [#shouted].
"^[quote:exclaim]!" {cried|shouted|called} [A:single].
"^[quote:where]?" asked [A:single]. "^[quote:there]," {[B:single] said|answered [B:single]}.
"^[quote:whether]?" [A:speaker] [A.v:ask]. "^[quote:yesno]," [B:single] [B.v:say].
"^[quote:offer]?" [A:speaker] [A.v:ask]. "^[quote:accept]," [B:single] [B.v:say].
"^[quote:time]?" [A:speaker] [A.v:ask]. "^[quote:then]," [B:single] [B.v:answer].
"^[quote:reason]?" asked [A:single]. "^because [quote:cause]," [B:single] replied.
"^[quote:say]," said [A:name], and [B] nodded.
"^[quote:say]," [A:speaker] [A.v:say] and [A.do:gesture].
[A:speaker] [A.v:say] "{good morning|good night|goodbye|thank you|hello}" to [B.obj] {|and [A.v:smile]|
  and [A.v:close] the door}.
"^[quote:say]," [A:speaker] [A.v:think].
"^[quote:say]!" [A:speaker] [#shouted].
""",
    "questions": """
Did [A] [A.base:act] [#lately]?
Did [A] really [A.base:mishap]?
Where did [A] {put|find|hide|buy|leave} {[own:goods]|[the:gift]|[A.his] [name:coat]}?
Where is {[A.own] [name:goods]|[the:shop]|the nearest [name:stop]}?
Why did [A] [A.base:act] [#lately]?
Why [A.was] [A] so [#mood] [#lately]?
Why didn't [A] [A.nbase:act]?
When will [A] [A.base:act]?
When did [A] {learn to [name:skill]|[A.base:arrive]|sell [A.his] [name:vehicle]|buy [the:garment]}?
What did [A] {buy|see|eat|find|forget|lose|draw} {[at:place]|[#lately]|in [name:city]|after dinner}?
What [A.is] [A] doing {in the [name:room]|[at:place]|with [the:goods]}?
Who {broke|took|bought|found} [the:handy] {|yesterday|last night}?
Who {taught|asked|helped|told} [A.obj:single] to [A.base:task]?
Which [name:goods] belongs to [A.obj:third]?
Whose [name:garment] {is this|did you borrow|is hanging in the hall|did [A] wear [#lately]}?
How did [A] [A.base:home] {so quickly|without [a:tool]|in one day|alone}?
How many [many:tiny] are there in [the:smallbox]?
How many [many:fruit] did [A] {eat|buy|pick} {|yesterday|this morning|at the market}?
How long does it take to {walk [to:place]|bake [a:baked]|[Y.base:home]|travel to [name:city]|learn
  [name:language]}?
How often [A.does] [A] [A.base:hobby]?
Has {anyone [A.bind:someone]|somebody [A.bind:someone]} [A.done:task]?
[A.has] [A] ever [A.done:act]?
[A.is] [A] going to [A.base:act] [#future]?
[A.is] [A] still [A.ing:busy]?
Will [A] [A.base:act] [#future]?
Can [A:third] [name:skill]?
Could you please [Y.base:task]?
Would you like to [Y.base:act] {|with [other]|[#future]}?
Would you rather [Y.base:hobby] or [Y.base:hobby]?
Do you know {where [A] [A.vs:live]|why [A] [A.is] so [#mood]|when the [name:shop] opens|whether [A]
  [A.did:act]}?
Do you think that [A] will [A.base:act] [#future]?
Have you ever seen [a:beast] {|in the wild|so close|in [name:city]}?
Is there [a:shop] {near here|near [the:building]|in this [name:town]}?
Are there {any [many:fruit] left|many [many:wild] in the forest|enough chairs for the guests}?
Shall we [W.base:together] [#future]?
Should I [I.base:act] or [I.base:act]?
[A] [A.did:act], didn't [A.he]?
[A] will [A.base:act] [#future], won't [A.he]?
It is {cold|warm|dark|windy|quiet} {today|outside|in here|in [the:room]}, isn't it?
""",
    "orders": """
[Y.base:task], please.
Please [Y.base:task].
Please [Y.base:task] before you [Y.base:leave].
Don't forget to [Y.base:task] [#future].
Do not [Y.nbase:handle] {|in the [name:room]|again|without asking}.
Let us [W.base:together] [#future].
Let's [W.base:together] {|together|instead|before it gets dark}.
Never [Y.base:never].
Always {wash your hands before dinner|look left and right before you cross the street|lock the door when
  you leave}.
{First|Now} [Y.base:home], and then [Y.base:home].
[Y.base:home], or [friend] will be {angry|sad|late|hungry}.
[Y.base:home], and I will [I.base:give].
If you see [other], {tell them that I am waiting|say hello from me|ask about [the:topic]|be kind}.
If [A:third] [A.does:arrive], {tell|ask} [A.him] to [A.base:task].
Be careful when you [Y.base:act].
Tell [A.obj:third] to [A.base:act] [#future].
Ask [A.obj:third] whether [A.he] [A.has] [A.done:task].
Remember to [Y.base:task] {|before dinner|when you come home|on the way home}.
Turn {left|right} at the [name:stop] and {walk|go|drive} {along [the:route]|across the bridge|to the end
  of the street}.
""",
}
