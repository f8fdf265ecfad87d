"""What the tests of histories in a database share."""

from collections import Counter

import sqlalchemy as sa
from altreco_client.histories import PICTURES, Histories
from sqlalchemy.pool import NullPool


def engine(url: str) -> sa.Engine:
    """A way to the database beside the store, which leaves no connection open."""
    return sa.create_engine(url, poolclass=NullPool)


def pictures(url: str) -> dict[tuple[str, str], list[str]]:
    """The tags of each user's picture, as the database has them."""
    with engine(url).connect() as connection:
        rows = connection.execute(sa.select(PICTURES.c.user_id, PICTURES.c.picture_id, PICTURES.c.tags)).all()
    return {(user, picture): tags for user, picture, tags in rows}


def recounted(url: str) -> dict[tuple[str, str], int]:
    """The count of each user's tag, from the pictures alone."""
    return dict(Counter((user, tag) for (user, _), tags in pictures(url).items() for tag in tags))


def counted(url: str) -> dict[tuple[str, str], float]:
    """The count of each user's tag, as the store has it."""
    with Histories(url) as store:
        return {(user, tag): count for user, tag, count in store.counts()}
