"""What takes seconds to make and is the same for many tests: made once in a session, for all of xdist's workers."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from export.init import init_repository
from export.release import Options, release
from tests.tiny import REPOSITORY, TAGS, copy_configs, save_tiny_checkpoint
from training.data.manifest import VOCABULARY_FILE

FEW_TAGS = 60


@dataclass(frozen=True)
class Kept:
    """Whoever needs a thing first makes it. No test changes what is here; one that wants to takes a copy."""

    folder: Path

    def checkpoint(self, tags: int = TAGS, seed: int = 0) -> Path:
        """The tiny model, and its data beside it: see `save_tiny_checkpoint`."""
        made = self._made(f"checkpoint-{tags}-{seed}", lambda path: save_tiny_checkpoint(path / "tiny.pt", tags, seed))
        return made / "tiny.pt"

    def releases(self, count: int = 1) -> Path:
        """A repository with the committed configs and so many releases, of seeds 0, 1, ...; the last one is pinned."""

        def make(path: Path) -> None:
            if count == 1:
                copy_configs(path)
            else:
                shutil.copytree(self.releases(count - 1), path, dirs_exist_ok=True)
            published = release(self.checkpoint(seed=count - 1), path, Options(quiet=True))
            assert (published.manifest.version, published.new) == (count, True)

        return self._made(f"releases-{count}", make)

    def few_tags(self) -> Path:
        """A repository for FEW_TAGS tags, made from the committed configs, with release 1."""

        def make(path: Path) -> None:
            checkpoint = self.checkpoint(tags=FEW_TAGS)
            init_repository(path, checkpoint.with_suffix(".data") / VOCABULARY_FILE, like=REPOSITORY)
            release(checkpoint, path, Options(quiet=True))

        return self._made("few-tags", make)

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        """Its folder. What a killed worker left half made is made again."""
        path, made = self.folder / name, self.folder / f"{name}.made"
        with FileLock(self.folder / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir(parents=True)
                make(path)
                made.touch()
        return path
