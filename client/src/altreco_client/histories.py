"""Users' histories in a database that processes share: SQLite, or PostgreSQL by its URL.

pip install 'altreco-client[histories]'

with Histories("postgresql+psycopg://host/photos") as store, TagRecommender("localhost:8001") as recommender:
    store.save("ana", "picture-17", ["sea", "beach"])
    recommender.recommend("photo.jpg", store["ana"])
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from .checks import checked_count, checked_id, checked_tag, iterate
from .errors import HistoriesUnavailable, InvalidHistory, InvalidRequest
from .history import TagHistory
from .text import shown

try:
    import sqlalchemy as sa
    from sqlalchemy import exc
    from sqlalchemy.dialects import postgresql, sqlite
except ImportError as missing:
    raise ImportError("altreco_client.histories needs SQLAlchemy: pip install 'altreco-client[histories]'") from missing

POOL_SIZE = 10
"""Most connections of one `Histories`; further threads wait."""

WAIT_S = 10
"""Longest wait in seconds for one of these connections, for PostgreSQL to accept one, and for a locked SQLite file."""

BATCH = 500
"""Most users or rows of one statement. A transaction holds a lock for each of its users, and PostgreSQL has few."""

MAX_TAG_BYTES = 1_600
"""Most bytes of a tag in UTF-8: an entry of PostgreSQL's index takes 2,704, the user's id included."""

METADATA = sa.MetaData()
COUNTS = sa.Table(
    "altreco_tag_counts",
    METADATA,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("count", sa.Double, sa.CheckConstraint("count > 0"), nullable=False),
)
PICTURES = sa.Table(
    "altreco_pictures",
    METADATA,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("picture_id", sa.Text, primary_key=True),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("added", sa.DateTime(timezone=True), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
)

_TAG = sa.and_(COUNTS.c.user_id == sa.bindparam("of_user"), COUNTS.c.tag == sa.bindparam("of_tag"))
_DROP = sa.delete(COUNTS).where(_TAG, COUNTS.c.count <= 1)
_LOWER = sa.update(COUNTS).where(_TAG).values(count=COUNTS.c.count - 1)
_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.bindparam("key", type_=sa.BigInteger)))


class Histories:
    """The histories of all users. Threads may share it; create it after any fork.

    `url` is `sqlite:///FILE`, `sqlite://` (in memory) or `postgresql+psycopg://USER@HOST/DATABASE`. The first use
    creates missing tables. The id of a user or a picture is a str of 1 to 1,000 bytes in UTF-8; a tag is one of
    `TagHistory`, of at most 1,600 bytes.

    Every method raises HistoriesUnavailable if the database cannot be used, InvalidRequest for a bad argument or after
    `close()`, and InvalidHistory for a bad tag. Then nothing has changed, but for whole batches of `set_counts`, and
    for a change whose confirmation was lost with the connection: it can be made again.
    """

    def __init__(self, url: str = "sqlite:///histories.db", *, create: bool = True) -> None:
        """Check the URL, and without `create` that SQLite's file exists; nothing connects. Raises InvalidRequest."""
        self._engine, self._place = _engine(url)
        if not create:
            _check_file(self._engine.url)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._created = self._closed = False

    def save(self, user: str, picture: str, tags: Iterable[str]) -> None:
        """Count the tags of a user's picture. If it is saved again, only the difference is counted."""
        key = {"user_id": checked_id("user", user), "picture_id": checked_id("picture", picture)}
        given = set(map(_fitting, TagHistory.from_pictures([tags])))
        this = sa.and_(*(PICTURES.c[name] == value for name, value in key.items()))
        with self._transaction(writes=[user]) as connection:
            had = set(connection.scalar(sa.select(PICTURES.c.tags).where(this)) or ())
            if gone := [{"of_user": user, "of_tag": tag} for tag in sorted(had - given)]:
                connection.execute(_DROP, gone)
                connection.execute(_LOWER, gone)
            if new := [{"user_id": user, "tag": tag, "count": 1} for tag in sorted(given - had)]:
                connection.execute(self._upsert(COUNTS, "count", add=True), new)
            if not given:
                connection.execute(sa.delete(PICTURES).where(this))
            elif given != had:
                connection.execute(self._upsert(PICTURES, "tags"), {**key, "tags": sorted(given)})

    def remove(self, user: str, picture: str) -> None:
        """Take a picture's tags out of the user's counts; nothing happens if the picture is not saved."""
        self.save(user, picture, ())

    def forget(self, user: str) -> None:
        """Delete the user's counts and pictures."""
        with self._transaction(writes=[checked_id("user", user)]) as connection:
            for table in (PICTURES, COUNTS):
                connection.execute(sa.delete(table).where(table.c.user_id == user))

    __iter__ = __contains__ = None
    """Without them, `in` and `for` would ask for the histories of users 0, 1, and so on."""

    def __getitem__(self, user: str) -> TagHistory:
        """The user's history, which is empty for an unknown user."""
        return self.many([user])[0]

    def many(self, users: Iterable[str]) -> list[TagHistory]:
        """The histories of several users, in their order."""
        asked = [checked_id("user", user) for user in iterate(users, "users", "a list of users' ids")]
        counts: dict[str, dict[str, float]] = {user: {} for user in asked}
        each = list(counts)
        with self._transaction() as connection:
            for start in range(0, len(each), BATCH):
                some = COUNTS.c.user_id.in_(each[start : start + BATCH])
                for user, tag, count in connection.execute(sa.select(COUNTS).where(some)):
                    counts[user][tag] = _plain(count)
        return [TagHistory(counts[user]) for user in asked]

    def counts(self) -> Iterator[tuple[str, str, float]]:
        """Every user, tag and count, from one snapshot and in the order of users. It is read as it is consumed."""
        every = sa.select(COUNTS).order_by(COUNTS.c.user_id, COUNTS.c.tag)
        with self._transaction() as connection:
            for user, tag, count in connection.execution_options(yield_per=10_000).execute(every):
                yield user, tag, _plain(count)

    def set_counts(self, rows: Iterable[tuple[str, str, float]]) -> int:
        """Set counts by user and tag, a batch of 500 in a transaction, and return the number of rows.

        A row with a count of zero changes nothing, and of rows for the same user and tag the last one counts. Other
        counts and all pictures stay. After an error, set the same rows again.
        """
        rows, done = iter(rows), 0
        while batch := list(islice(rows, BATCH)):
            counts = {
                (checked_id("user", user), _fitting(checked_tag(tag))): checked_count(tag, count)
                for user, tag, count in batch
            }
            values = [{"user_id": key[0], "tag": key[1], "count": counts[key]} for key in sorted(counts) if counts[key]]
            if values:
                with self._transaction(writes={user for user, _ in counts}) as connection:
                    connection.execute(self._upsert(COUNTS, "count"), values)
            done += len(batch)
        return done

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._engine.dispose()

    def __enter__(self) -> Histories:
        """Return the histories, which are closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def __repr__(self) -> str:
        """The database without user and password."""
        return f"Histories({self._place!r})"

    @contextmanager
    def _transaction(self, writes: Collection[str] = ()) -> Iterator[sa.Connection]:
        """Run a transaction; of those that write the same user's rows, one at a time. Raises HistoriesUnavailable."""
        if self._closed:
            raise InvalidRequest(f"the histories in {self._place} are closed: create another Histories")
        try:
            self._create_tables()
            with self._engine.begin() as connection:
                self._lock(connection, writes)
                yield connection
        except exc.SQLAlchemyError as error:
            words = getattr(error, "orig", None) or type(error).__name__
            if isinstance(error, exc.TimeoutError):
                words = f"all connections of this process were in use for {WAIT_S} s"
            raise HistoriesUnavailable(f"the histories in {self._place} cannot be used: {words}") from None

    def _lock(self, connection: sa.Connection, users: Collection[str]) -> None:
        """Wait until nobody else writes these users' rows: `forget` cannot see the rows of a save under way."""
        if users and self._is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # a BEGIN fails if somebody else wrote after its first read
        elif users:
            connection.execute(_LOCK, [{"key": key} for key in sorted(map(_lock_key, users))])

    def _create_tables(self) -> None:
        if self._created:
            return
        with self._engine.begin() as connection:
            if self._is_sqlite:
                _use_wal(connection)
            self._lock(connection, ["altreco"])  # others may create them at the same time
            METADATA.create_all(connection)
        self._created = True

    def _upsert(self, table: sa.Table, column: str, *, add: bool = False) -> Any:
        """An INSERT that sets, or adds to, one column of the rows that exist."""
        insert: Any = sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)
        value = table.c[column] + insert.excluded[column] if add else insert.excluded[column]
        return insert.on_conflict_do_update(index_elements=table.primary_key.columns, set_={column: value})


def _engine(url: str) -> tuple[sa.Engine, str]:
    """An engine that has not connected yet, and its database in words that hold no secret."""
    expected = (
        "expected sqlite:///FILE, with three slashes, or postgresql+psycopg://USER@HOST/DATABASE, with %40 for an @ in "
        "a password"
    )
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError, TypeError):
        raise InvalidRequest(f"the URL of the histories cannot be read: {expected}") from None
    if parsed.drivername not in ("sqlite", "postgresql", "postgresql+psycopg"):
        raise InvalidRequest(f"the URL of the histories is for {shown(parsed.drivername)}: {expected}")
    if parsed.drivername == "sqlite" and parsed.host:  # of two slashes
        raise InvalidRequest(f"the URL of the histories has a host, {shown(parsed.host)}: {expected}")
    if "@" in (parsed.host or ""):  # it is a part of the password
        raise InvalidRequest(f"the host in the URL of the histories has an @: {expected}")
    place = str(sa.URL.create(parsed.drivername, host=parsed.host, port=parsed.port, database=parsed.database))
    options: dict[str, Any] = {"pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": WAIT_S}
    if parsed.drivername == "sqlite":
        options["connect_args"] = {"timeout": WAIT_S, "check_same_thread": False}
        if parsed.database in (None, "", ":memory:"):
            options |= {"pool_size": 1, "poolclass": sa.QueuePool}  # each connection would have a database of its own
    else:
        parsed = parsed.set(drivername="postgresql+psycopg")
        options["isolation_level"] = "READ COMMITTED"  # what is read after a lock must be the newest
        if "connect_timeout" not in parsed.query:
            options["connect_args"] = {"connect_timeout": WAIT_S}
    try:
        return sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True, **options), place
    except ImportError as error:
        raise InvalidRequest("PostgreSQL needs psycopg: pip install 'altreco-client[histories]'") from error


def _check_file(url: sa.URL) -> None:
    """Raise InvalidRequest if a file of SQLite is missing: it would be made, and be empty."""
    if url.drivername == "sqlite" and not Path(url.database or "").is_file():
        raise InvalidRequest(
            f"there are no histories in {shown(url.database or 'memory')}: expected a file that `Histories` or "
            "`altreco history import` has written"
        )


def _use_wal(connection: sa.Connection) -> None:
    """Let readers and a writer of an SQLite file work at the same time."""
    give_up = time.monotonic() + WAIT_S
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except exc.OperationalError:  # the one statement that does not wait for another process, which may do the same
            if time.monotonic() > give_up:
                raise
        time.sleep(0.01)


def _lock_key(user: str) -> int:
    return int.from_bytes(blake2b(user.encode(), digest_size=8, person=b"altreco").digest(), signed=True)


def _fitting(tag: str) -> str:
    if len(tag.encode()) > MAX_TAG_BYTES:
        raise InvalidHistory(f"tag {shown(tag)}: expected at most {MAX_TAG_BYTES:,} bytes in UTF-8 to store it")
    return tag


def _plain(count: float) -> float:
    """The count as int, as `TagHistory.add` makes it, if it is one that a float holds exactly."""
    return int(count) if count < 2**53 and count.is_integer() else count
