"""The parts of the study, each with its data sets."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from measure.files import write_bytes
from training.ablation.rows import FEW_PICTURES, MAIN_RUNS, POPULATION, runs_of
from training.ablation.study import Study
from training.data.manifest import MANIFEST_FILE, VOCABULARY_FILE
from training.data.synthetic import SyntheticSettings, generate

MAIN, FEW, POPULATIONS = "main", "few-pictures", "population"
NAMES = (MAIN, FEW, POPULATIONS)

CROWDS = (0, 300, 2000)
"""Training users of the population study in addition to the 60."""
PEOPLE = SyntheticSettings(
    pictures=3600,
    users=60,
    new_users=60,
    validation_users=40,
    crowd=max(CROWDS),
    pool=5000,
    test_share=1 / 6,
    context=True,
)
MANY_USERS = SyntheticSettings(pictures=3600, users=300, new_users=300, validation_users=100, test_share=1 / 6)


@dataclass(frozen=True)
class Part:
    """The runs of one part of the study, which are done on each of its data sets.

    `left_out`: run to why it cannot be done.
    """

    name: str
    studies: tuple[Study, ...]
    runs: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def is_done(self, seeds: int) -> bool:
        """Whether all results are there."""
        return all(s.is_done(run, seed) for s in self.studies for run in self.runs for seed in range(seeds))


def all_parts(
    work: Path, study: Callable[[Path, int], Study], epochs: int, left_out: Mapping[str, str] | None = None
) -> list[Part]:
    """The parts with their data sets below `work`; `study` makes one of a data set and a number of epochs.

    The main study is the smallest of the population study, so that they share their runs. The largest has twelve times
    as many training pictures, and is trained for half the epochs.
    """
    *smaller, largest = (people_folder(work, crowd) for crowd in CROWDS)
    studies = [*(study(folder, epochs) for folder in smaller), study(largest, max(1, epochs // 2))]
    return [
        main_part(studies[0], left_out),
        Part(FEW, (study(many_users_folder(work), epochs),), runs_of(FEW_PICTURES)),
        Part(POPULATIONS, tuple(studies), runs_of(POPULATION)),
    ]


def people_folder(work: Path, crowd: int) -> Path:
    """The data set of PEOPLE with so many of the crowd, named by its number of training users."""
    return work / f"people-{PEOPLE.users + crowd}"


def many_users_folder(work: Path) -> Path:
    """The data set of MANY_USERS."""
    return work / f"users-{MANY_USERS.users}"


def make_data(names: Collection[str], work: Path) -> None:
    """Generate the data sets of the named parts below `work`."""
    if FEW in names:
        generate(many_users_folder(work), MANY_USERS)
    if {MAIN, POPULATIONS} & set(names):
        people = generate(work / "people-pictures", PEOPLE)
        for crowd in CROWDS:
            with_crowd(people, people_folder(work, crowd), crowd)


def main_part(study: Study, left_out: Mapping[str, str] | None = None) -> Part:
    """All variants and comparison methods on one data set."""
    left_out = left_out or {}
    return Part(MAIN, (study,), tuple(run for run in MAIN_RUNS if run not in left_out), left_out)


def with_crowd(people: Path, out: Path, crowd: int) -> Path:
    """Write a data set with only the first `crowd` users of the crowd, whose pictures stay in the folder `people`."""
    user = pl.col("user")
    in_crowd = user.str.starts_with("crowd")
    number = user.str.strip_prefix("crowd").cast(pl.Int64, strict=False)
    table = pl.read_parquet(people / MANIFEST_FILE).filter(~in_crowd | (number < crowd))
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / VOCABULARY_FILE, (people / VOCABULARY_FILE).read_bytes())
    pictures = out / "images"
    if not pictures.is_symlink():
        pictures.symlink_to(os.path.relpath(people / "images", out))
    table.write_parquet(out / MANIFEST_FILE)
    return out
