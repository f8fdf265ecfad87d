"""Counts of an import, printed as a table and written to `import_report.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from training.errors import DataError

REPORT_FILE = "import_report.json"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Each line counts once: as a picture that was written, or under the first reason that applies."""

    lines: int
    pictures: int
    broken: int
    video: int
    no_user: int
    no_split: int
    no_tags: int
    no_known_tag: int
    few_tags: int
    no_context: int
    duplicate: int
    missing_image: int
    no_image: int
    users: int
    """Users of the pictures that were written."""
    unknown_tags: int
    """Tags outside the vocabulary, over all lines."""
    changed_tags: int
    """Tags that are in the vocabulary only in lower case or in Unicode's composed form, over all lines."""
    changed_vocabulary: int
    """Tags of the vocabulary that were given in another form."""
    without_date: int
    """Pictures that were written without a date; likewise without a place."""
    without_place: int

    @property
    def bad(self) -> int:
        """Damaged lines; the other reasons are normal for the data."""
        return self.broken + self.missing_image + self.no_image

    def __str__(self) -> str:
        """Format one count per line."""
        return "\n".join(f"{LABELS[name]:40}{count:>15,}" for name, count in asdict(self).items())

    def write(self, folder: Path) -> None:
        """Write `import_report.json`."""
        (folder / REPORT_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="ascii")


LABELS = {
    "lines": "lines",
    "pictures": "pictures written",
    "broken": "left out: broken line",
    "video": "left out: video",
    "no_user": "left out: user unknown",
    "no_split": "left out: in no split list",
    "no_tags": "left out: no tags",
    "no_known_tag": "left out: no tag of the vocabulary",
    "few_tags": "left out: too few tags",
    "no_context": "left out: date or place unknown",
    "duplicate": "left out: duplicate",
    "missing_image": "left out: image not found",
    "no_image": "left out: no image, damaged or too large",
    "users": "users",
    "unknown_tags": "tags outside the vocabulary",
    "changed_tags": "tags changed to lower case or NFC",
    "changed_vocabulary": "the same in the vocabulary",
    "without_date": "pictures without date",
    "without_place": "pictures without place",
}


def check_bad_share(bad: dict[str, int], lines: int, limit: float, example: str | None) -> None:
    """Raise DataError if more than `limit` of all lines are bad; `bad` counts them by reason, `example` names one."""
    if sum(bad.values()) > limit * lines:
        found = ", ".join(f"{LABELS[name].removeprefix('left out: ')}: {count:,}" for name, count in bad.items())
        raise DataError(
            f"{sum(bad.values()):,} of {lines:,} lines are bad ({found}), more than a share of {limit}"
            + (f"; {example}" if example else "")
            + "; check that the files have this layout, or raise --max-bad-share to leave such lines out"
        )
