"""What the study compares: the rows of its tables."""

from dataclasses import dataclass

from training.evaluate import ANOTHER, FREQUENT, WITH, WITHOUT
from training.methods.compare import FASTTAG, FUSION, NEIGHBOURS, OWN

METHODS = "methods"
"""The run, beside the variants', of what needs no training of a network of its own."""


@dataclass(frozen=True)
class Row:
    """A line of the report: the run that it comes from (a variant of `training/presets.py`, or METHODS), and which of
    the run's results.
    """

    label: str
    run: str
    result: str = WITH


FULL = Row("A6: the full model", "A6")
COLD = Row("A4: A6 without history (cold start)", "A6", WITHOUT)

TABLES: dict[str, tuple[Row, ...]] = {
    "Parts of the model (the paper's Tables VII and VIII)": (
        Row("A1: visual net alone", "A1"),
        Row("A2: with user preference, joint", "A2"),
        Row("A3: A6, auto-encoder trained first, then frozen", "A3"),
        COLD,
        Row("A5: adversarial loss on the personalized tags", "A5"),
        FULL,
    ),
    "The auto-encoder (Table IX)": (
        Row("no skips, MSE", "no-skips-mse"),
        Row("skips, MSE", "skips-mse"),
        Row("no skips, Huber", "no-skips-huber"),
        Row("skips, Huber (A6)", "A6"),
    ),
    "Integration of e and u_p (section IV b)": (
        Row("addition", "addition"),
        Row("multiplication", "multiplication"),
        Row("concatenation (A6)", "A6"),
    ),
    "The adversarial loss": (
        Row("none: theta 0, G and L_g stay", "no-adversary"),
        Row("-log D(G(e)), theta 1e-4 (A6)", "A6"),
        Row("log(1 - D(G(e))), equation 3 as printed, theta 1e-4", "saturating"),
        Row("-log D(G(e)), theta 1: the paper's equal weights", "equal-weights"),
    ),
    "The histories": (
        Row("leave-one-out (A6)", "A6"),
        Row("query picture included, as in the paper", "query-included"),
        Row("A6, with another user's history", "A6", ANOTHER),
        COLD,
    ),
    "Comparison methods (Tables IV to VI)": (
        Row("most frequent tags", "A6", FREQUENT),
        Row("user's own most frequent tags", METHODS, OWN),
        Row("visual k-nearest-neighbour votes", METHODS, NEIGHBOURS),
        Row("FastTag", METHODS, FASTTAG),
        Row("Softmax loss, visual net", "softmax"),
        Row("WARP loss, visual net", "warp"),
        Row("cross-entropy, visual net (A1)", "A1"),
        Row("A1 with late-fused user prior", METHODS, FUSION),
        FULL,
    ),
}

VARIANTS = tuple(dict.fromkeys(row.run for rows in TABLES.values() for row in rows if row.run != METHODS))
"""To train; METHODS comes after them, as it takes the features of A1."""


@dataclass(frozen=True)
class Question:
    """What the difference in precision@5 of two rows answers, seed by seed."""

    text: str
    row: Row
    over: Row


A1, A2, NO_ADVERSARY = Row("A1", "A1"), Row("A2", "A2"), Row("theta 0", "no-adversary")
FREQUENT_TAGS = Row("most frequent tags", "A6", FREQUENT)

QUESTIONS = (
    Question("Does the picture count? A1 over the most frequent tags", A1, FREQUENT_TAGS),
    Question("Does personalization pay? A2 over A1", A2, A1),
    Question(
        "Is learned fusion better than late fusion? A2 over A1 with a late-fused prior", A2, Row("", METHODS, FUSION)
    ),
    Question("Does the generator with L_g help? theta 0 over A2", NO_ADVERSARY, A2),
    Question("Does the adversarial loss help? A6 over theta 0", FULL, NO_ADVERSARY),
    Question("Should D judge generalized tags? A6 over A5", FULL, Row("A5", "A5")),
    Question("Is joint training better? A6 over A3", FULL, Row("A3", "A3")),
    Question("Non-saturating over saturating", FULL, Row("", "saturating")),
    Question("theta 1e-4 over equal weights", FULL, Row("", "equal-weights")),
    Question("Skips: A6 over no skips with Huber", FULL, Row("", "no-skips-huber")),
    Question("Huber: A6 over skips with MSE", FULL, Row("", "skips-mse")),
    Question("Concatenation over addition", FULL, Row("", "addition")),
    Question("Concatenation over multiplication", FULL, Row("", "multiplication")),
    Question("Leave-one-out over histories with the query picture", FULL, Row("", "query-included")),
    Question("Whose history it is: A6 over A6 with another user's", FULL, Row("", "A6", ANOTHER)),
)
