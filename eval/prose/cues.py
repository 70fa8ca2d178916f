"""Words that turn a sentence: negations, hedges, old and new values, who says so, exceptions. Data for `said`.

A phrase is a regular expression over whole normalised tokens joined by single blanks (see `tokens`), never over
raw characters; phrases are separated by " | ".
"""

from __future__ import annotations

import re


def words(phrases: str) -> re.Pattern[str]:
    """A pattern for any of the phrases as whole tokens."""
    return re.compile(r"(?<!\S)(?:" + "|".join(phrases.split(" | ")) + r")(?!\S)")


# Look like negations and are none.
FALSE_FRIEND = words(
    "(?:do|must|should|please) not forget | never forget | (?:before|lest) (?:i|we|you) forget | not forget | "
    "without exceptions? | no exceptions? | not only | no matter | no doubt | no problem | no question | without fail"
)
GRAMMATICAL = words(
    "not | never | no(?! longer(?! than)) | nobody | none | nothing | nowhere | neither | nor | without"
)
# Scope over what stands before them too: the verb is negated, or the subject is what is forbidden.
VERBAL = words(
    "(?:do|does|did|is|are|was|were|be|may|must|can|could|will|would|shall|should) not | "
    "(?:has|have|had|need|needs|ever|also) not | never"
)
FORBIDDING = words(
    "forbidden | forbids? | prohibit(?:s|ed)? | ban(?:s|ned)? | avoid(?:s|ed|ing)? | disallow(?:s|ed)? | "
    "off limits | taboo | no go | unacceptable | out of bounds | unnecessary | optional | barred | veto(?:ed)?"
)
# Only where something is to be avoided: elsewhere "cut" and "drop" are what the rule asks for.
REMOVING = words(
    "(?:leaves?|left|leaving|keeps?|kept|keeping|stay|stays|stayed|takes?|took|taken|ruled?|cuts?|throw)"
    r"(?: \S+){0,5}? (?:out|away|off|clear|free) | "
    "(?:strik(?:e|es|ing)|struck|stricken) | refus(?:e|es|ed|ing) | reject(?:s|ed)? | delet(?:e|es|ed) | "
    "remov(?:e|es|ed|ing) | omit(?:s|ted)? | drop(?:s|ped)? | skip(?:s|ped)? | free (?:of|from) | free | "
    "clear of | clean of | hate[sd]? | dislike[sd]? | stop(?:s|ped)? | refrain(?:s|ed)? | instead of | "
    "rather than | except | anything but | unmentioned | unwanted | unwelcome | steers? | shuns? | "
    "exclud(?:e|es|ed|ing) | cut | cuts"
)
# Say it only between the lines; they count where nothing plainer is said.
TELLING = words(
    "allerg(?:y|ies|ic) | closed | empty | in vain | full | switched off | badly | loses? patience | too busy | "
    "nobody | sends? it back | hospital | off | refuse[sd]? | goes? straight back"
)
# Between a negation and a value they turn it round: "nobody except X", "never more than X", "not without X".
TURNING = words(
    "unless | except | until | till | without | before | but | than | over | above | beyond | "
    "exceed(?:s|ed|ing)? | past | after | only | outside | besides | apart | under | below | first | "
    "skip(?:ped)? | bypass(?:ed)? | omit(?:ted)? | miss(?:ing)? | ignore[d]? | overrule[d]? | change | deviate | "
    "depart | swap | fail | leave out | touch | lack(?:s|ing)?"
)
TURNING_BAN = words("unless | except | without | only | until | other than | anything but")
AFTER_TURNING = words("skipped | bypassed | omitted | missed | missing | ignored | overruled | left out | exceeded")
BREAK = words(r"; | \( | \) | — | – | - | but | whereas | while | although | though | instead")
COLON = words(":")
SUBORDINATE = words(
    "if | when | whenever | where | wherever | because | once | as | since | although | though | that | which | "
    "who | whose | unless | until | before | after | while | for | without"
)
COMMA = words(",")
JOIN = words(", | and | or | ; | nor | then | :")
NEGATIVE_END = words("reject(?:ed|s)? | refuse[ds]? | returned | sent back | send back | goes back")
HEDGE = words(
    "maybe | perhaps | possibly | probably | presumably | apparently | unsure | uncertain | "
    "(?:it is|am|remains) unclear | i think(?! (?:in|of|about)) | i believe | i guess | might | seems? | "
    "roughly | approximately | something like | not sure | not certain | do not know | does not know | either | "
    "one of (?:these|them|the following|those) | "
    "or (?:another|other|others|some|somebody|someone|something|any|anybody|anyone|whoever|whatever|similar|so) | "
    "any of (?:these|those|them|the following) | as far as i remember | if i remember | some kind of | "
    "a kind of | sort of | depending on | in any order | reverse | either order | more or less | allegedly | "
    r"likely | (?:about|around) [0-9]\S*"
)
HYPOTHETICAL = words(
    "suppose | supposing | imagine | hypothetical | hypothetically | what if | if we (?:were|had) | pretend | "
    "in theory | thought experiment | assume | assuming | say we | let us say | would have | could have | "
    "were to | we could | toying with | picture an? | think of an?"
)
# Somebody else's words.
OUTSIDER = words(
    "competitors? | "
    "rivals? (?:says?|said|wrote|writes|claims?|paper|publisher|handbook|guide|company|team|newsroom|rule|policy) | "
    "their (?:rules?|policy|policies|handbook|guide|guidelines|style guide|manual|people|staff) | "
    "other (?:teams?|companies|papers?|publishers?|shops?|firms?|houses?|newsrooms?|offices?|customers?|places) | "
    "another (?:team|company|paper|publisher|shop|firm|house|newsroom|office|customer|department|place) | "
    "strangers? | they (?:say|said|write|wrote|claim|claimed|insist|want|demand) | web ?site | web ?page | "
    "blog | forum | spam | phishing | newsletter (?:says|said|wrote) | "
    "(?:his|her) (?:rule|policy|team|paper|company) | tool output | search results? | "
    "(?:dear|hello|to the|for the|for all) assistants? | automatic readers | system message | "
    "unknown sender (?:wrote|writes|says|said|sent) | mailbox | flyer | leaflet | printout | out of a tool | "
    "search tool | page that i do not know | free mailer | update service | another firm | trade fair | "
    "once said | not so here | "
    r"my (?:\S+ )?(?:last|old|former|previous) (?:job|firm|company|employer|boss|team|paper) | "
    r"(?:a|an|another|some|one) (?:\S+ ){1,5}?(?:says|said|states|stated|wrote|writes|claims|claimed) | "
    "somebody (?:wrote|writes|says|said) | someone (?:wrote|writes|says|said) | third party | former employer | "
    "old (?:job|company|paper|employer) | a reader (?:wrote|says|writes) | "
    "(?:a|an|this|that|some|the) (?:e )?mail (?:says|said|claims|from|came|arrived|reads?|asks|asked|demands|told) | "
    "nobody (?:here )?(?:has )?(?:adopted|agreed) | according to (?:a|an|their|the (?:rival|web|article|blog))"
)
GROUP = "(?:offices?|branch|branches|team|bureau|site|department|division|region|subsidiary|plant|warehouse|shop)"
ELSEWHERE = words(
    rf"(?:only )?(?:for|in|at|to) (?:the )?(?:\S+ ){{1,3}}?{GROUP} only | "
    rf"only (?:for|in|at|to) the (?:\S+ ){{1,3}}?{GROUP} | (?:the )?\S+ {GROUP} only | "
    "not (?:for|to|about|on) us | not (?:our|ours) | does not concern us | not bind us | not hold for us | "
    "not hold here | not apply (?:here|to us) | no such thing | not how we | nothing to do with us | "
    "leaves? us out | not touch us | not (?:our )?(?:rule|policy) | we are not part | not mean us | "
    "not for (?:our|the two of us) | nothing of the kind | (?:own way|theirs alone|rule of its own) | "
    "only they | leave it aside | none of this concerns us | no force | here it does not | not so here | "
    "we here are not"
)
RETRACTED = words(
    r"no longer(?! than) | not (?:\S+ ){1,6}?any ?(?:more|longer) | withdrawn? | withdraw | withdrew | revoked? | "
    "cancell?ed | cancel | repealed | scrap(?:ped|s)? | abolished | lifted | rescinded | void | obsolete | "
    "forget | disregard | ignore (?:that|it|this|the rule|what) | "
    "(?:drop|dropped|strike|delete) (?:that|this|the|my|our) (?:old )?(?:rule|policy) | "
    "rule (?:is|was|has been) (?:dropped|off|gone|over|history) | (?:is|are) off the table | expired | lapsed | "
    "not in force | not valid | not binding | not apply(?! (?:if|when|where|to|for)) | "
    "does not hold(?! (?:if|when)) | no (?:such )?rule | take (?:that|it) back | "
    "do not follow (?:it|that|this) | is over | is gone | is history | stop following | free again | "
    "do as you like | nothing takes its place | we gave it up | rule is off | rule has been lifted | "
    "we drop the rule | nobody needs it"
)
UPDATE = words(
    "change of plan | differently | anew | there is a change | now | from now on | changed? | changes to | "
    "updated? | corrections? | corrected | instead | no longer(?! than) | replac(?:e|es|ed|ing) | currently | "
    "amended | amendment | revised | rather | switched | moved | raised | lowered | as of | from today | "
    "starting | supersedes? | superseded | new | anymore | any more | after all"
)
WAS = words(
    "formerly | previously | originally | initially | (?<!are )(?<!is )(?<!am )used to(?: be)? | earlier | "
    "at first | (?:old|former) (?:rule|value|limit|cap|policy|order|version|one|wording|figure) | in the past | "
    "back then | until now | once was | had been | previous"
)
# Directly before a value, or between it and the cue only "by", "with", "to" and the like.
NOT_THIS = words(
    "no longer | instead of | rather than | in place of | replac(?:es|ed|ing) | was | were | supersedes | not | from"
)
REPLACED_AFTER = words(
    "(?:is|was|has been|are|were) (?:replaced|superseded|changed|dropped) | no longer(?! than) | (?:becomes?|became)"
)
EXCEPTING = words(
    "unless | except(?:ed|ing|ions?)? | excluding | exempt(?:s|ed)? | but (?:not )?(?:if|when|for) | "
    "other than | apart from | aside from | save (?:when|if|for) | however | not (?:if|when) | does not apply | "
    "only if not | otherwise"
)
UNTIL = words(r"(?:until|till|through|up to|ended|ending|expires|expired|by)(?: \S+){0,2}? <date>")
ADOPTED = words(
    "(?<!not )in force (?:here|with us|for us) | holds? for us | we (?:have )?adopt(?:ed)? | i adopt | "
    "(?:is|as|are) ours | our own | (?<!not )appl(?:y|ies) to us | binds us | we follow (?:it|this|that|them) | "
    "make (?:it|this|them) ours"
)
LEAST = words("at least | a minimum of | minimum of | minimum | min | no (?:fewer|less) than | not (?:fewer|less) than")
MORE = words(
    "(?:more|longer|larger|bigger|higher|greater) than | over | above | exceed(?:s|ed|ing)? | beyond | upwards of"
)
MOST = words(
    "at most | a maximum of | maximum of | maximum | max | up to | (?:fewer|less|shorter|smaller) than | under | "
    "below | within | limit of | cap of | limited to | capped at | or under | no (?:more|longer) than | "
    "not (?:more|longer) than"
)
OR_MORE = words("or more | or longer | at least | minimum | and more | upwards | or over")
