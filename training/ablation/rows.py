"""What the study compares: runs, the rows of its tables, and the questions that differences of rows answer."""

from dataclasses import dataclass

from training.ablation.backbones import CONVNEXT, NARROW, OTHERS
from training.evaluate import ANOTHER, FREQUENT, FUSION, WITHOUT, fused
from training.methods import compare
from training.methods.compare import METHODS, RUNS


@dataclass(frozen=True)
class Row:
    """A line of a table. `run`: a variant of `training/presets.py`, A1 on one of BACKBONES, or one of the
    methods' RUNS.

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
A3, A5 = Row("A3: auto-encoder trained first, then frozen", "A3"), Row("A5: D judges personalized tags", "A5")
NO_SKIPS_MSE, SKIPS_MSE = Row("no skips, MSE", "no-skips-mse"), Row("skips, MSE", "skips-mse")
NO_SKIPS_HUBER = Row("no skips, Huber", "no-skips-huber")
LATE = Row("A1, late fusion", METHODS, fuses=True)
A1_PATH, A6_PATH = Row("A1 + path", "A1+path"), Row("A6 + path", "A6+path")
A1_HIER, A6_HIER = Row("A1 + hier", "A1+hier"), Row("A6 + hier", "A6+hier")
COLD = Row("A4: A6 without history", "A6", WITHOUT)
STRANGER = Row("A6, another user's history", "A6", ANOTHER)
FREQUENT_TAGS = Row("most frequent tags", "A6", FREQUENT)
NEIGHBOURS = Row("visual neighbours", METHODS, compare.NEIGHBOURS)
FASTTAG = Row("FastTag, after Chen et al. 2013 (one B, no second look at rare tags)", METHODS, compare.FASTTAG)
SOFTMAX = Row("Softmax loss, after Gong et al. 2013", "softmax")
WARP = Row("WARP loss, after Gong et al. 2013 (violations counted, not sampled)", "warp")

_CONTAGNET, _CNN_RNN = "ConTagNet, after Rawat and Kankanhalli 2016", "CNN-RNN, after Wang et al. 2016"
RAW = Row(f"{_CONTAGNET} (our backbone; raw context)", "contagnet-raw", compare.CONTEXT)
RAW_PERMUTED = Row(f"{_CONTAGNET} (raw, contexts permuted: the control)", "contagnet-raw", compare.PERMUTED)
CYCLIC = Row(f"{_CONTAGNET} (our backbone; cyclic context, ours)", "contagnet-cyclic", compare.CONTEXT)
CYCLIC_PERMUTED = Row(f"{_CONTAGNET} (cyclic, contexts permuted)", "contagnet-cyclic", compare.PERMUTED)
CNN_RNN = Row(f"{_CNN_RNN} (features of A1, 5 paths)", "cnn-rnn", compare.PATH)
GREEDY = Row(f"{_CNN_RNN} (features of A1, greedy)", "cnn-rnn", compare.GREEDY)
PROMPT = Row("PROMPT, after Shah et al. 2016 (without text)", "prompt", compare.GROUPED)
ONE_GROUP = Row("PROMPT, after Shah et al. 2016 (without text, one group)", "prompt", compare.ONE_GROUP)
DLSR = Row("DLSR, after Lin et al. 2014 (without initial tags)", "dlsr", compare.TWO_VIEWS)
CLARE = Row("CLARE, after Wang et al. 2017 (our objective)", "clare", compare.JOINT)
RIDGE = Row("ridge regression: CLARE without groups", "clare", compare.RIDGE)
TAG_GRAPH = Row("tag graph, after Lee et al. 2018 (all tags seen, graph of co-occurrences)", "tag-graph", compare.GRAPH)
NO_GRAPH = Row("tag graph, T = 0", "tag-graph", compare.NO_GRAPH)

BACKBONES = tuple(f"A1@{name}" for name in OTHERS)
"""The runs of A1 on other backbones."""

BY_CONTEXT = (
    Row("A1: visual net alone", "contagnet-raw", compare.VISUAL),
    *(RAW, RAW_PERMUTED, CYCLIC, CYCLIC_PERMUTED),
    Row("A1, late fusion", "contagnet-raw", FUSION),
)
"""Compared by what the pictures' contexts say."""

MODELS = (A1, LATE, A2, A6, A1_PATH, A6_PATH, A1_HIER, A6_HIER)
"""Compared with every kind of history."""

TABLES: dict[str, tuple[Row, ...]] = {
    "Parts (the paper's Tables VII and VIII)": (
        A1,
        A2,
        A3,
        COLD,
        A5,
        A6,
    ),
    "Auto-encoder (Table IX)": (
        NO_SKIPS_MSE,
        SKIPS_MSE,
        NO_SKIPS_HUBER,
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
    "A1 on other backbones": (
        A1,
        Row("A1, ResNet with stages of half the width", f"A1@{NARROW}"),
        Row("A1, ConvNeXt", f"A1@{CONVNEXT}"),
    ),
    "Comparison methods (Tables IV to VI)": (
        *(FREQUENT_TAGS, Row("own most frequent tags", METHODS, compare.OWN), NEIGHBOURS, FASTTAG, SOFTMAX, WARP),
        *(RAW, RAW_PERMUTED, CYCLIC, CYCLIC_PERMUTED),
        *(PROMPT, ONE_GROUP),
        *(CNN_RNN, Row(f"{_CNN_RNN} (5 paths, likeliest tag first)", "cnn-rnn", compare.BY_PROBABILITY), GREEDY),
        Row(f"{_CNN_RNN} (end to end, 5 paths)", "cnn-rnn", compare.END_TO_END),
        *(DLSR, Row("DLSR, after Lin et al. 2014 (pictures alone)", "dlsr", compare.PICTURES_ALONE)),
        *(CLARE, RIDGE, TAG_GRAPH, NO_GRAPH),
        LATE,
    ),
}
"""Each with the user's own history."""

NOTES = {
    RAW: "ConTagNet trains like A1, from the same weights. By design of the generated data, context says what neither "
    "the picture (the place, the weekday) nor the history (which trip) does.",
    PROMPT: "PROMPT chooses the number of groups on validation pictures. Generated users do fall into groups of word "
    "habits, which is kind to it.",
    CNN_RNN: "CNN-RNN predicts frequent tags first, which costs precision@3 and @5: compare its precision@10. What "
    "follows the path is ranked by another rule, so that its MAP and nDCG say little. End to end goes on from the row "
    "on features.",
    DLSR: "DLSR completes the tags of a picture in the original; here a test picture has none.",
    CLARE: "CLARE's labels are, on generated data, what the drawing shows, with noise.",
    TAG_GRAPH: "The tag graph and CNN-RNN can learn which tags go together (nikon d90, synonyms). Most generated tags "
    "are rare invented names, which go with nothing.",
}
"""What to know of a method's rows."""


@dataclass(frozen=True)
class Question:
    """What the difference in precision@5, or in another metric, of two rows answers, seed by seed."""

    text: str
    row: Row
    over: Row
    metric: str = "precision@5"


QUESTIONS = (
    Question("Does the picture count? A1, most frequent tags", A1, FREQUENT_TAGS),
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
    Question("Context: ConTagNet raw, A1", RAW, A1),
    Question("ConTagNet raw, permuted contexts", RAW, RAW_PERMUTED),
    Question("ConTagNet cyclic, raw", CYCLIC, RAW),
    Question("PROMPT, visual neighbours", PROMPT, NEIGHBOURS),
    Question("PROMPT, one group", PROMPT, ONE_GROUP),
    Question("CNN-RNN, A1, in precision@10", CNN_RNN, A1, "precision@10"),
    Question("CNN-RNN: 5 paths, greedy, in precision@10", CNN_RNN, GREEDY, "precision@10"),
    Question("DLSR, visual neighbours", DLSR, NEIGHBOURS),
    Question("Labels: CLARE, ridge regression", CLARE, RIDGE),
    Question("Tag graph: T = 5, T = 0", TAG_GRAPH, NO_GRAPH),
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
    run
    for run in runs_of((*MODELS, *(row for rows in TABLES.values() for row in rows)))
    if run not in (*RUNS, *BACKBONES)
)
"""To train on the main data set."""

MAIN_RUNS = (*VARIANTS, *BACKBONES, *RUNS)
"""On the main data set."""
