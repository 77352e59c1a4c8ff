"""The manifest of a data set, a Parquet file with one row for each image, including dropped ones.

Its metadata holds the settings of the data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line, os_input_error, writing
from hyperface_jax.synthesis.faults import Copies, count_copies
from hyperface_jax.synthesis.shards import MANIFEST, StagedFile, locked

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath
    from hyperface_jax.synthesis.shards import DataSet

_TYPES = {
    "identity": "int64",
    "sample": "int32",
    "shard": "int32",
    "key": "string",
    "seed": "int64",
    "attempt": "int32",
    "condition_cosine": "float32",
    "target_cosine": "float32",
    "is_flat": "bool",
    "sketch": "binary",
    "is_kept": "bool",
}
COLUMNS = tuple(_TYPES)
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_SUMMARIZED = tuple(name for name in COLUMNS if name not in ("sample", "shard", "key", "seed"))
_NULLABLE = ("key", "target_cosine", "sketch")
_ADDED = {"is_flat": False, "sketch": None}
"""Columns that manifests from earlier versions lack, with their default values."""
_METADATA = b"hyperface"
_BATCH = 1024
_ROW_GROUP = 1 << 17


class ImageFigures(NamedTuple):
    """Figures of an image for the manifest.

    Attributes:
        seed: seed of the data set or the image, a signed 64-bit number.
        attempt: number of the last attempt at the image, counted from 0.
        condition_cosine: cosine between the condition and the identity's embedding.
        target_cosine: cosine between the face's embedding and the identity's; None if not measured.
        is_flat: whether the image has a single color.
        sketch: sketch of the face, from :func:`~hyperface_jax.synthesis.faults.sketch`; None if unknown.
    """

    seed: int
    attempt: int
    condition_cosine: float
    target_cosine: float | None = None
    is_flat: bool = False
    sketch: bytes | None = None


class Row(NamedTuple):
    """A row of the manifest.

    ``key`` is the name of the image in its shard without the suffix; None if the image was dropped.
    """

    identity: int
    sample: int
    shard: int
    key: str | None
    seed: int
    attempt: int
    condition_cosine: float
    target_cosine: float | None
    is_flat: bool
    sketch: bytes | None
    is_kept: bool


class ManifestRows:
    """The rows of one shard, held in Arrow's format with about 80 bytes per row.

    Raises:
        InputError: pyarrow is not installed.
    """

    def __init__(self) -> None:
        self._arrow, self._parquet = _libraries()
        self._schema = _schema(self._arrow)
        self._pending: list[Row] = []
        self._batches: list[Any] = []

    def append(self, row: Row) -> None:
        """Add a row."""
        self._pending.append(row)
        if len(self._pending) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._pending, strict=True)
        arrays = [
            self._arrow.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._batches.append(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._pending.clear()

    def parquet(self, settings: Mapping[str, Any]) -> memoryview:
        """Return the content of a Parquet file with the rows; there must be at least one."""
        if self._pending:
            self._flush()
        table = self._arrow.Table.from_batches(self._batches)
        sink = self._arrow.BufferOutputStream()
        self._parquet.write_table(table.replace_schema_metadata(_metadata(settings)), sink)
        return memoryview(sink.getvalue())


def merge_manifests(data_set: DataSet) -> Path | None:
    """Write ``manifest.parquet``, with all rows in the order of the shards, if all are finished.

    Args:
        data_set: the data set; several workers may call this at the same time.

    Returns:
        The path of the file, or None if a shard is not finished.

    Raises:
        InputError: the manifest of a shard is damaged, or the disk is full.
    """
    if not all(data_set.is_finished(shard) for shard in range(data_set.plan.num_shards)):
        return None
    arrow, parquet = _libraries()
    schema = _schema(arrow).with_metadata(_metadata(data_set.record()))
    with locked(data_set.lock_file(MANIFEST), wait=True):
        staged = StagedFile(data_set.path / MANIFEST)
        try:
            with writing(staged.path), parquet.ParquetWriter(staged.file, schema) as writer:
                for table in _row_groups(data_set, arrow):
                    writer.write_table(table.replace_schema_metadata(schema.metadata))
            staged.finish()
            staged.publish()
        except BaseException:
            staged.discard()
            raise
    return staged.path


def _row_groups(data_set: DataSet, arrow: Any) -> Iterator[Any]:
    """Yield the rows in tables of at least ``_ROW_GROUP``, since small row groups make files slow."""
    tables: list[Any] = []
    for shard in range(data_set.plan.num_shards):
        tables.append(_part(data_set, shard))
        if sum(map(len, tables)) >= _ROW_GROUP:
            yield arrow.concat_tables(tables)
            tables = []
    if tables:
        yield arrow.concat_tables(tables)


def _part(data_set: DataSet, shard: int) -> Any:
    table = read_manifest(data_set.part(shard))
    wanted = data_set.plan.images(shard)
    if not (
        set(table["shard"].to_pylist()) == {shard}
        and np.array_equal(table["identity"].to_numpy(), wanted.ids)
        and np.array_equal(table["sample"].to_numpy(), wanted.samples)
    ):
        raise InputError(
            f"{one_line(data_set.part(shard))}: holds other rows than the images of the shard; "
            "remove it and run again"
        )
    return table.replace_schema_metadata(None)


def read_manifest(path: StrPath, columns: Sequence[str] = COLUMNS) -> Any:
    """Read a manifest.

    Args:
        path: the file, or the folder of a finished data set.
        columns: names of the columns to read.

    Returns:
        A ``pyarrow.Table``.

    Raises:
        InputError: the file is missing, damaged or not a manifest, or pyarrow is not installed.
    """
    file = _open(path)
    try:
        return _read(file, columns)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    finally:
        file.close()


def _read(file: Any, columns: Sequence[str]) -> Any:
    arrow, _ = _libraries()
    there = file.schema_arrow.names
    table = file.read([name for name in columns if name in there])
    for place, name in enumerate(columns):
        if name not in there:
            field = _schema(arrow).field(name)
            values = arrow.array([_ADDED[name]] * len(table), field.type)
            table = table.add_column(place, field, values)
    return table


def manifest_settings(path: StrPath) -> dict[str, Any]:
    """Return the settings in the metadata of a manifest, the same as in ``dataset.json``.

    Raises:
        InputError: as for :func:`read_manifest`.
    """
    file = _open(path)
    try:
        return json.loads(file.schema_arrow.metadata[_METADATA])
    finally:
        file.close()


def _open(path: StrPath) -> Any:
    """Open a Parquet file, and check that it has the columns and the metadata of a manifest."""
    arrow, parquet = _libraries()
    path = Path(path) / MANIFEST if Path(path).is_dir() else Path(path)
    try:
        file = parquet.ParquetFile(path)
    except FileNotFoundError as error:
        raise os_input_error(path, "cannot read", error) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    schema = file.schema_arrow
    whole = _schema(arrow)
    earlier = arrow.schema([field for field in whole if field.name not in _ADDED])
    if _METADATA not in (schema.metadata or {}) or not (
        schema.equals(whole) or schema.equals(earlier)
    ):
        file.close()
        raise InputError(f"{one_line(path)}: no manifest of this program; name another file")
    return file


def _damaged(path: StrPath, error: Exception) -> InputError:
    reason = one_line(error).rstrip(".")
    return InputError(f"{one_line(path)}: not a whole Parquet file: {reason}; delete and remake it")


def summarize(path: StrPath) -> dict[str, Any]:
    """Summarize a manifest.

    Args:
        path: the file, or the folder of a finished data set.

    Returns:
        ``num_images``, the number of kept images; ``num_rejected``, of dropped ones;
        ``num_identities``, of identities with at least one image; ``num_short_identities``, of
        identities with fewer images than planned, including those with none; ``num_flat``, of dropped
        images with a single color; ``num_retried``, of images kept after more than one attempt; the
        fields of :class:`~hyperface_jax.synthesis.faults.Copies`; and ``condition_cosine`` and
        ``target_cosine``, the ``QUANTILES`` over the kept images by name, or None without values.

    Raises:
        InputError: as for :func:`read_manifest`.
    """
    settings = manifest_settings(path)
    table = read_manifest(path, _SUMMARIZED)
    kept = table.filter(table["is_kept"])
    counts = np.bincount(kept["identity"].to_numpy(), minlength=settings["num_ids"])
    return {
        "num_images": len(kept),
        "num_rejected": len(table) - len(kept),
        "num_flat": int(np.sum(table["is_flat"].to_numpy())),
        "num_identities": int(np.sum(counts > 0)),
        "num_short_identities": int(np.sum(counts < settings["images_per_id"])),
        "num_retried": int(np.sum(kept["attempt"].to_numpy() > 0)),
        **_copies(kept)._asdict(),
        "condition_cosine": _quantiles(kept["condition_cosine"]),
        "target_cosine": _quantiles(kept["target_cosine"]),
    }


def _copies(kept: Any) -> Copies:
    sketched = kept.filter(kept["sketch"].is_valid())
    return count_copies(sketched["identity"].to_numpy(), sketched["sketch"].to_pylist())


def _quantiles(column: Any) -> dict[str, float] | None:
    values = column.drop_null().to_numpy()
    if not len(values):
        return None
    found = np.quantile(values.astype(np.float64), QUANTILES)
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def _schema(arrow: Any) -> Any:
    return arrow.schema(
        [
            arrow.field(name, arrow.type_for_alias(kind), nullable=name in _NULLABLE)
            for name, kind in _TYPES.items()
        ]
    )


def _metadata(settings: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {_METADATA: json.dumps(settings, sort_keys=True).encode()}


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "manifest: needs pyarrow; pip install '.[synthesis]' in a checkout"
        ) from error
    return pyarrow, pyarrow.parquet
