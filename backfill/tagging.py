"""The core: a table of pictures in, a table of their tags out. Ray Data, Spark and Dask run it too."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from altreco_client import (
    InvalidHistory,
    InvalidImage,
    PreparedImage,
    Recommendation,
    TagHistory,
    TagRecommender,
    contract,
    prepare,
)
from altreco_client.call import methods
from numpy.typing import NDArray

from backfill.errors import BackfillError, InputError
from backfill.storage import Place, place, read_image

ENCODING_BYTES = 2 * int(np.prod(contract.ENCODING_SHAPE))
"""Size of a kept visual encoding, fp16."""

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "user": pa.string(),
        "tags": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "release": pa.string(),
        "error": pa.string(),
    }
)
"""The tags of each picture, best first. `release` is the one that answered; with an `error`, the rest is null."""

ENCODING = pa.field("encoding", pa.binary(ENCODING_BYTES))
"""The visual encoding, fp16 [64, 7, 7], little-endian."""

TEXT = (pa.string(), pa.large_string(), pa.string_view())

Histories = Sequence[TagHistory | None]
Rank = Callable[[list[Any], Histories], Sequence[Recommendation]]
Read = Callable[[Any], Any]


def tag_table(table: pa.Table, client: TagRecommender, k: int = 5, *, root: str | Place = "") -> pa.Table:
    """Recommend k tags for each row, in batches of 32 one after the other; the result has the columns of SCHEMA.

    Columns: `image` (path or URL of an object), and optionally `id` (default: `image`), `user`, and `history`
    (map<string, double>). A relative path starts at `root`, the current folder by default. A picture or a history that
    cannot be used gives a row with an error. Tags that the server does not know are left out of the histories.

    Raises InputError for other columns' types, the client's ServerError if the server cannot answer, and OSError if the
    object store cannot.
    """
    return _in_batches(
        check_columns(table), _picture(root), lambda images, histories: client.recommend_batch(images, histories, k)
    )


def encode_table(table: pa.Table, client: TagRecommender, k: int = 5, *, root: str | Place = "") -> pa.Table:
    """Do what `tag_table` does, and add the column ENCODING, null for a row with an error."""
    kept: list[bytes] = []

    def rank(images: list[Any], histories: Histories) -> Sequence[Recommendation]:
        answers, encodings = client._run(methods.recommend_and_encode(client._state, images, histories, k))
        kept.extend(_half(encodings))
        return answers

    tags = _in_batches(check_columns(table), _picture(root), rank)
    left = iter(kept)
    column = [next(left) if error is None else None for error in tags["error"].to_pylist()]
    return tags.append_column(ENCODING, pa.array(column, ENCODING.type))


def rerank_table(table: pa.Table, client: TagRecommender, k: int = 5) -> pa.Table:
    """Recommend k tags for each row's `encoding` and `history`, without the visual encoder; raises as `tag_table` does.

    Columns: `id`, `user`, `encoding`, `error`, and optionally `history`. A row that has an error keeps it.
    """

    def rank(encodings: list[Any], histories: Histories) -> Sequence[Recommendation]:
        return client._run(methods.recommend_encoded(client._state, np.stack(encodings), histories, k))

    return _in_batches(table, _encoding, rank)


def check_columns(table: pa.Table) -> pa.Table:
    """Give the table its `id`. Raises InputError for a column that is missing or has another type."""
    for name in ("image", "id", "user"):
        found = table.schema.field(name).type if name in table.column_names else None
        if found not in TEXT and (found is not None or name == "image"):
            raise InputError(f"column {name}: expected text, found {found or f'only {table.column_names}'}")
    if "history" in table.column_names:
        kind = table.schema.field("history").type
        if not pa.types.is_map(kind) or kind.key_type not in TEXT or not is_number(kind.item_type):
            raise InputError(f"column history: expected map<string, double>, found {kind}")
    return table if "id" in table.column_names else table.append_column("id", table["image"])


def _in_batches(table: pa.Table, read: Read, rank: Rank) -> pa.Table:
    size = contract.MAX_BATCH_SIZE
    batches = [_batch(table.slice(start, size), read, rank) for start in range(0, len(table), size)]
    return pa.concat_tables(batches) if batches else SCHEMA.empty_table()


def _batch(table: pa.Table, read: Read, rank: Rank) -> pa.Table:
    """Rank what can be read; the rest becomes rows with an error."""
    rows = table.to_pylist(maps_as_pydicts=None)
    inputs: list[Any] = []
    histories: list[TagHistory | None] = []
    errors: list[str | None] = []
    for row in rows:
        try:
            history, one = _history(row.get("history")), read(row)
        except (InvalidImage, InvalidHistory) as error:
            errors.append(f"{type(error).__name__}: {error}")
        except _Failed as error:
            errors.append(str(error))
        else:
            inputs.append(one)
            histories.append(history)
            errors.append(None)
    answers = iter(rank(inputs, histories) if inputs else ())
    return pa.Table.from_pylist(
        [_row(row, error, next(answers) if error is None else None) for row, error in zip(rows, errors, strict=True)],
        SCHEMA,
    )


def _row(row: dict[str, Any], error: str | None, answer: Recommendation | None) -> dict[str, Any]:
    return {
        "id": row["id"],
        "user": row.get("user"),
        "tags": [tag.name for tag in answer.tags] if answer else None,
        "scores": [tag.score for tag in answer.tags] if answer else None,
        "release": answer.model_version if answer else None,
        "error": error,
    }


class _Failed(Exception):
    """The error of an earlier run, which a row keeps."""


def _picture(root: str | Place) -> Read:
    folder = place(root) if isinstance(root, str) else root

    def read(row: dict[str, Any]) -> PreparedImage:
        return prepare(read_image(row["image"], folder))

    return read


def _encoding(row: dict[str, Any]) -> NDArray[np.float32]:
    if row["encoding"] is None:
        raise _Failed(row["error"])
    return np.frombuffer(row["encoding"], dtype="<f2").astype(np.float32).reshape(contract.ENCODING_SHAPE)


def _history(pairs: Iterable[tuple[str, float]] | None) -> TagHistory | None:
    return None if pairs is None else TagHistory(dict(pairs))


def _half(encodings: NDArray[np.float32]) -> list[bytes]:
    """Encodings [batch, 64, 7, 7] as fp16; raises BackfillError for values beyond its range."""
    if np.abs(encodings).max(initial=0) > np.finfo(np.float16).max:
        raise BackfillError("the visual encodings do not fit fp16: run without --encodings")
    return [half.tobytes() for half in encodings.astype("<f2")]


def is_number(kind: pa.DataType | None) -> bool:
    """Whether counts may have this type; None: there is no such column."""
    return kind is not None and (pa.types.is_integer(kind) or pa.types.is_floating(kind))
