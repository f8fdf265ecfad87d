"""What the study compares: runs, the rows of its tables, and the questions that differences of rows answer."""

from dataclasses import dataclass

from training.evaluate import ANOTHER, FREQUENT, WITHOUT, fused
from training.methods.compare import FASTTAG, NEIGHBOURS, OWN

METHODS = "methods"
"""The run of the methods that train no network of their own. Every other run is a variant."""


@dataclass(frozen=True)
class Row:
    """A line of a table. `run`: a variant of `training/presets.py`, or METHODS.

    `result`: the method that the row shows, whatever the column's history is. None: the column's history itself, or
    its late fusion if `fuses`.
    """

    label: str
    run: str
    result: str | None = None
    fuses: bool = False

    def method(self, history: str) -> str:
        """The method of `evaluate` in the column of this history."""
        return self.result or (fused(history) if self.fuses else history)


A1, A2, A6 = Row("A1: visual net alone", "A1"), Row("A2: with U_E, joint", "A2"), Row("A6: the paper's model", "A6")
LATE = Row("A1, late fusion", METHODS, fuses=True)
A1_PATH, A6_PATH = Row("A1 + path", "A1+path"), Row("A6 + path", "A6+path")
A1_HIER, A6_HIER = Row("A1 + hier", "A1+hier"), Row("A6 + hier", "A6+hier")
COLD = Row("A4: A6 without history", "A6", WITHOUT)
STRANGER = Row("A6, another user's history", "A6", ANOTHER)

MODELS = (A1, LATE, A2, A6, A1_PATH, A6_PATH, A1_HIER, A6_HIER)
"""Compared with every kind of history."""

TABLES: dict[str, tuple[Row, ...]] = {
    "Parts (the paper's Tables VII and VIII)": (
        A1,
        A2,
        Row("A3: auto-encoder trained first, then frozen", "A3"),
        COLD,
        Row("A5: D judges personalized tags", "A5"),
        A6,
    ),
    "Auto-encoder (Table IX)": (
        Row("no skips, MSE", "no-skips-mse"),
        Row("skips, MSE", "skips-mse"),
        Row("no skips, Huber", "no-skips-huber"),
    ),
    "Integration of e and u_p (section IV b)": (
        Row("addition", "addition"),
        Row("multiplication", "multiplication"),
    ),
    "Adversarial loss": (
        Row("theta 0", "no-adversary"),
        Row("equation 3 as printed", "saturating"),
        Row("theta 1: equal weights", "equal-weights"),
    ),
    "Histories": (
        Row("query picture included", "query-included"),
        STRANGER,
    ),
    "Comparison methods (Tables IV to VI)": (
        Row("most frequent tags", "A6", FREQUENT),
        Row("own most frequent tags", METHODS, OWN),
        Row("visual neighbours", METHODS, NEIGHBOURS),
        Row("FastTag", METHODS, FASTTAG),
        Row("Softmax loss", "softmax"),
        Row("WARP loss", "warp"),
        LATE,
    ),
}
"""Each with the user's own history."""


@dataclass(frozen=True)
class Question:
    """What the difference in precision@5 of two rows answers, seed by seed."""

    text: str
    row: Row
    over: Row


QUESTIONS = (
    Question("Does the picture count? A1, most frequent tags", A1, Row("", "A6", FREQUENT)),
    Question("Does U_E pay? A2, A1", A2, A1),
    Question("U_E or late fusion? A2, late fusion", A2, LATE),
    Question("Path or late fusion? A6 + path, late fusion", A6_PATH, LATE),
    Question("Hier or late fusion? A1 + hier, late fusion", A1_HIER, LATE),
    Question("U_E beside the path: A6 + path, A1 + path", A6_PATH, A1_PATH),
    Question("Population prior: A1 + hier, A1 + path", A1_HIER, A1_PATH),
    Question("U_E beside it: A6 + hier, A1 + hier", A6_HIER, A1_HIER),
    Question("G with L_g: theta 0, A2", Row("", "no-adversary"), A2),
    Question("Adversarial loss: A6, theta 0", A6, Row("", "no-adversary")),
    Question("D judges generalized tags: A6, A5", A6, Row("", "A5")),
    Question("Joint training: A6, A3", A6, Row("", "A3")),
    Question("Non-saturating, equation 3", A6, Row("", "saturating")),
    Question("theta 1e-4, equal weights", A6, Row("", "equal-weights")),
    Question("Skips: A6, no skips with Huber", A6, Row("", "no-skips-huber")),
    Question("Huber: A6, skips with MSE", A6, Row("", "skips-mse")),
    Question("Concatenation, addition", A6, Row("", "addition")),
    Question("Concatenation, multiplication", A6, Row("", "multiplication")),
    Question("Leave-one-out, query picture included", A6, Row("", "query-included")),
    Question("Own history, another user's", A6, STRANGER),
)
"""Each text ends with the names of `row` and `over`."""

FEW_PICTURES = (A1, LATE, A6, A6_PATH, A1_HIER)
"""Compared on many users with few pictures."""
POPULATION = (A1_PATH, A1_HIER)
"""Compared on more and more training users."""


def runs_of(rows: tuple[Row, ...]) -> tuple[str, ...]:
    """The runs that these rows need, each once."""
    return tuple(dict.fromkeys(row.run for row in rows))


VARIANTS = tuple(
    run for run in runs_of((*MODELS, *(row for rows in TABLES.values() for row in rows))) if run != METHODS
)
"""To train on the main data set."""
