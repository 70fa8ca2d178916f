"""Four editorial policies of six rules, and probes that only somebody who read them can answer.

Each probe has four options that differ in one value, none of which common sense prefers; a model answers by giving one
of them the highest likelihood. The demo plays the first policy, `eval` uses all of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """A question about one rule.

    Attributes:
        question: as a user would ask it.
        options: four near misses, the right one among them.
        answer: index of the right option.
    """

    question: str
    options: tuple[str, str, str, str]
    answer: int


@dataclass(frozen=True)
class Policy:
    """Six rules as one message to a model, and a probe for each.

    Attributes:
        name: one word.
        text: the message.
        probes: one for each rule, in the order of the rules.
    """

    name: str
    text: str
    probes: tuple[Probe, ...]


POLICIES = (
    Policy(
        "newsroom",
        "This is our publishing policy. Please remember all six rules. "
        "1. Anonymous sources are approved by the deputy editor. "
        "2. A claim from an anonymous source needs three confirmations before it is printed. "
        "3. Corrections are published within five hours. "
        "4. Headlines have at most nine words. "
        "5. Photos of children need written consent from a teacher. "
        "6. Quotes are read back to the speaker on the day before publication, by phone.",
        (
            Probe(
                "Who approves anonymous sources?",
                ("The managing editor.", "The deputy editor.", "The legal editor.", "The night editor."),
                1,
            ),
            Probe(
                "How many confirmations does a claim from an anonymous source need?",
                ("Two confirmations.", "Four confirmations.", "Five confirmations.", "Three confirmations."),
                3,
            ),
            Probe(
                "Within how many hours are corrections published?",
                ("Within five hours.", "Within two hours.", "Within eight hours.", "Within six hours."),
                0,
            ),
            Probe(
                "How many words may a headline have at most?",
                ("At most seven words.", "At most ten words.", "At most nine words.", "At most twelve words."),
                2,
            ),
            Probe(
                "Who gives written consent for photos of children?",
                ("A parent.", "A teacher.", "A lawyer.", "A doctor."),
                1,
            ),
            Probe(
                "How are quotes read back to the speaker?",
                ("By mail.", "By letter.", "By fax.", "By phone."),
                3,
            ),
        ),
    ),
    Policy(
        "magazine",
        "These are the rules of our magazine. Please keep all six in mind. "
        "1. Every feature is checked by two fact checkers. "
        "2. Writers hand in their drafts on Tuesday. "
        "3. The color of the cover is chosen by the art director in March. "
        "4. Advertisements stay below thirty percent of the pages. "
        "5. Book reviews are signed with initials only. "
        "6. Expenses above forty euros need a receipt from the bureau in Lisbon.",
        (
            Probe(
                "By how many fact checkers is every feature checked?",
                (
                    "By three fact checkers.",
                    "By four fact checkers.",
                    "By two fact checkers.",
                    "By five fact checkers.",
                ),
                2,
            ),
            Probe(
                "On which day do writers hand in their drafts?",
                ("On Tuesday.", "On Monday.", "On Friday.", "On Thursday."),
                0,
            ),
            Probe(
                "In which month is the color of the cover chosen?",
                ("In January.", "In May.", "In October.", "In March."),
                3,
            ),
            Probe(
                "Below which share of the pages do advertisements stay?",
                ("Twenty percent.", "Thirty percent.", "Forty percent.", "Fifty percent."),
                1,
            ),
            Probe(
                "How are book reviews signed?",
                ("With full names.", "With pen names.", "With initials only.", "With first names."),
                2,
            ),
            Probe(
                "Which bureau gives the receipt for large expenses?",
                ("The bureau in Lisbon.", "The bureau in Madrid.", "The bureau in Paris.", "The bureau in London."),
                0,
            ),
        ),
    ),
    Policy(
        "radio",
        "Here are the six house rules of our radio station. Follow them from now on. "
        "1. Interviews are recorded in studio four. "
        "2. Guests arrive twenty minutes early. "
        "3. The weather report is read by the intern. "
        "4. Songs with swearing are only played after eleven at night. "
        "5. Listeners who win a prize wait six weeks before they may win again. "
        "6. Complaints are answered by letter, signed by the station's lawyer.",
        (
            Probe(
                "In which studio are interviews recorded?",
                ("In studio one.", "In studio four.", "In studio two.", "In studio five."),
                1,
            ),
            Probe(
                "How early do guests arrive?",
                ("Ten minutes early.", "Thirty minutes early.", "Forty minutes early.", "Twenty minutes early."),
                3,
            ),
            Probe(
                "Who reads the weather report?",
                ("The intern.", "The host.", "The director.", "The producer."),
                0,
            ),
            Probe(
                "After which hour are songs with swearing played?",
                ("After nine at night.", "After ten at night.", "After eleven at night.", "After eight at night."),
                2,
            ),
            Probe(
                "How long does a winner wait before winning again?",
                ("Three weeks.", "Six weeks.", "Eight weeks.", "Four weeks."),
                1,
            ),
            Probe(
                "Who signs the answers to complaints?",
                ("The director.", "The manager.", "The producer.", "The lawyer."),
                3,
            ),
        ),
    ),
    Policy(
        "archive",
        "Please learn the six rules of our photo archive. "
        "1. Negatives are kept at seven degrees. "
        "2. Visitors wear gloves made of cotton. "
        "3. A print may be borrowed for twelve days. "
        "4. Captions are written in pencil. "
        "5. Damaged plates are reported to the curator in Vienna. "
        "6. Copies for schools cost half the price, and copies for museums cost nothing.",
        (
            Probe(
                "At how many degrees are negatives kept?",
                ("At ten degrees.", "At four degrees.", "At seven degrees.", "At twelve degrees."),
                2,
            ),
            Probe(
                "What are the visitors' gloves made of?",
                ("Of cotton.", "Of latex.", "Of leather.", "Of wool."),
                0,
            ),
            Probe(
                "For how many days may a print be borrowed?",
                ("For seven days.", "For ten days.", "For thirty days.", "For twelve days."),
                3,
            ),
            Probe(
                "What are captions written in?",
                ("In ink.", "In pencil.", "In marker.", "In chalk."),
                1,
            ),
            Probe(
                "In which city is the curator to whom damaged plates are reported?",
                ("In Berlin.", "In Rome.", "In Vienna.", "In Prague."),
                2,
            ),
            Probe(
                "What do copies for museums cost?",
                ("Nothing.", "Half the price.", "The full price.", "A third."),
                0,
            ),
        ),
    ),
)
