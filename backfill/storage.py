"""Folders and files, local or in an object store (s3://, gs://), through `pyarrow.fs`."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from altreco_client.errors import InvalidImage
from altreco_client.images import MAX_BYTES
from altreco_client.text import shown
from pyarrow import fs

from backfill.errors import InputError


@dataclass(frozen=True)
class Place:
    """A file or folder."""

    system: fs.FileSystem
    path: str
    """Path in the file system, without a slash at the end."""
    text: str
    """Path or URL, as the user gave it."""

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return isinstance(self.system, fs.LocalFileSystem)

    def __truediv__(self, name: str) -> "Place":
        """A file in this folder."""
        return Place(self.system, f"{self.path}/{name}", f"{self.text.rstrip('/')}/{name}")

    def names(self) -> list[str]:
        """The names of the files in this folder, sorted; none without a folder."""
        found = self.system.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.is_file)

    def parquet_files(self) -> list[str]:
        """Relative paths of the Parquet files below this folder, sorted; "" if it is a file. Raises InputError.

        Names that begin with "_" or "." are left out, as Spark and Dask do.
        """
        if self.system.get_file_info(self.path).is_file:
            return [""]
        found = self.system.get_file_info(fs.FileSelector(self.path, allow_not_found=True, recursive=True))
        relative = [info.path[len(self.path) :].lstrip("/") for info in found if info.is_file]
        names = [name for name in relative if name.endswith(".parquet") and not _is_hidden(name)]
        if not names:
            raise InputError(f"{self.text}: expected a Parquet file or a folder of *.parquet, found none")
        return sorted(names)

    def file(self, name: str) -> "Place":
        """One of `parquet_files`."""
        return self / name if name else self

    def read(self) -> bytes:
        """Read a whole file; raises OSError."""
        with self.system.open_input_file(self.path) as file:
            content: bytes = file.read()
        return content

    def write(self, content: bytes | pa.Buffer) -> None:
        """Write a file aside, then rename it, so that it is there whole or not at all; raises OSError."""
        folder, _, name = self.path.rpartition("/")
        partial = f"{folder}/_{name}.{secrets.token_hex(4)}.partial"
        try:
            with self.system.open_output_stream(partial) as stream:
                stream.write(content)
            self.system.move(partial, self.path)
        except OSError:
            with suppress(OSError):
                self.system.delete_file(partial)
            raise

    def write_table(self, table: pa.Table) -> None:
        """Write a Parquet file as `write` does."""
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression="zstd")
        self.write(content.getvalue())

    def delete_partial(self) -> None:
        """Delete what a killed process left of this file."""
        folder, _, name = self.path.rpartition("/")
        for info in self.system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.base_name.startswith(f"_{name}.") and info.base_name.endswith(".partial"):
                with suppress(FileNotFoundError):
                    self.system.delete_file(info.path)


def place(text: str) -> Place:
    """Find the file system of a path or URL, such as s3://bucket/pictures; raises InputError."""
    if "://" not in text:
        return Place(fs.LocalFileSystem(), str(Path(text).absolute()), text)
    try:
        system, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{text}: expected a path, or a URL of s3:// or gs://: {error}") from error
    return Place(system, path.rstrip("/"), text)


def read_image(text: object, root: Place) -> bytes:
    """Read a picture's file from its URL, or its path relative to `root`.

    Raises InvalidImage for one that is not there, may not be read or has no URL of an object store, and OSError if the
    store fails.
    """
    if not isinstance(text, str) or not text:
        raise InvalidImage(f"image is {shown(text)}: expected a path or the URL of an object")
    if "://" in text:
        parts = urlsplit(text)
        system, path = _store(parts.scheme, parts.netloc), text.partition("://")[2].partition("?")[0]
    else:
        system, path = root.system, text if text.startswith("/") and root.local else f"{root.path}/{text}"
    try:
        with system.open_input_file(path) as file:
            return bytes(file.read(MAX_BYTES + 1))
    except OSError as error:
        # A store that does not answer is no fault of the picture. Arrow says only in words that one is refused.
        refused = isinstance(error, FileNotFoundError | PermissionError) or "ACCESS_DENIED" in str(error)
        if refused or isinstance(system, fs.LocalFileSystem):
            raise InvalidImage(f"cannot read {shown(text)}: {error}") from error
        raise


@cache
def _store(scheme: str, netloc: str) -> fs.FileSystem:
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{netloc}" if netloc else f"{scheme}:///")[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidImage(
            f"{scheme}:// is not read: expected a path, or a URL of s3:// or gs://; fetch other pictures first"
        ) from error


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in name.split("/"))
