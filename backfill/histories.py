"""The histories of the users of one part, from Parquet or from a database."""

from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from altreco_client import InvalidRequest

from backfill.errors import InputError
from backfill.storage import Place, place
from backfill.tagging import TEXT, is_number

COLUMNS = ("user", "tag", "count")
DATABASES = ("sqlite", "postgresql")
HISTORY = pa.map_(pa.string(), pa.float64())

Counts = dict[str, dict[str, float]]


class ParquetHistories:
    """Rows of `user`, `tag` and `count`; those of one user and tag are added up."""

    def __init__(self, source: Place) -> None:
        """Read the schema; raises InputError."""
        names = source.parquet_files()
        self._rows = ds.dataset([source.file(name).path for name in names], filesystem=source.system, format="parquet")
        kinds = dict(zip(self._rows.schema.names, self._rows.schema.types, strict=True))
        if kinds.get("user") not in TEXT or kinds.get("tag") not in TEXT or not is_number(kinds.get("count")):
            found = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            raise InputError(f"{source.text}: expected the columns user (text), tag (text) and count (number): {found}")

    def many(self, users: list[str]) -> Counts:
        """Look users up; those without rows are left out. Row groups of other users are skipped if sorted by user."""
        wanted = pc.field("user").isin(pa.array(users, self._rows.schema.field("user").type))
        found = self._rows.to_table(columns=list(COLUMNS), filter=wanted)
        counts: Counts = {}
        for user, tag, count in zip(*(found[name].to_pylist() for name in COLUMNS), strict=True):
            own = counts.setdefault(user, {})
            own[tag] = own.get(tag, 0.0) + count
        return counts


class StoredHistories:
    """The database that `altreco_client.histories` keeps."""

    def __init__(self, url: str) -> None:
        """Check the URL. Raises InputError, also without the client's extra and for a file that is missing."""
        try:
            from altreco_client.histories import Histories  # noqa: PLC0415 - an extra of the client
        except ImportError as error:
            raise InputError(str(error)) from error
        self._open = partial(Histories, url, create=False)
        try:
            self._open().close()
        except InvalidRequest as error:
            raise InputError(str(error)) from error

    def many(self, users: list[str]) -> Counts:
        """Look users up; raises the client's HistoriesUnavailable."""
        with self._open() as store:
            return {user: dict(counts) for user, counts in zip(users, store.many(users), strict=True)}


def histories(text: str) -> ParquetHistories | StoredHistories:
    """Open a file or folder of Parquet, or the URL of a database; raises InputError."""
    if text.partition("://")[0].partition("+")[0] in DATABASES:
        return StoredHistories(text)
    return ParquetHistories(place(text))


def with_histories(table: pa.Table, source: ParquetHistories | StoredHistories) -> pa.Table:
    """Add the column `history` of each row's `user`."""
    users = table["user"].to_pylist()
    known = source.many(sorted({user for user in users if user is not None}))
    column = [list(known[user].items()) if user in known else None for user in users]
    return table.append_column("history", pa.array(column, HISTORY))
