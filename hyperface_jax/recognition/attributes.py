"""Known attributes of the identities, which a linear map can learn to predict from the embedding.

In a rendered data set, the parameters of each face are known. Regressing them in addition to the margin
loss makes training on few images faster and better. Do not use them for a recognizer that will be
compared with others trained on images alone.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import csv_input_error, one_line, os_input_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Array, Float

    from hyperface_jax.io.files import StrPath
    from hyperface_jax.typing import Indices, Points, Scalar


_SCALE = 4.0
"""Factor on unit embeddings, for fast learning that is stable at the margin heads' learning rates."""


class Regression(NamedTuple):
    """The linear map from unit embeddings to attributes.

    Attributes:
        weight: matrix of the map, ``[d, k]``.
        bias: offset of the map, ``[k]``.
    """

    weight: Float[Array, "d k"]
    bias: Float[Array, " k"]


def init_regression(embedding_dim: int, num_attributes: int) -> Regression:
    """Return the initial map, all zeros."""
    return Regression(jnp.zeros((embedding_dim, num_attributes)), jnp.zeros(num_attributes))


def attribute_loss(
    regression: Regression,
    embeddings: Points,
    attributes: Float[Array, "n k"],
    labels: Indices,
) -> Scalar:
    """Return the mean squared error of the attributes predicted from the embeddings.

    Args:
        regression: the linear map.
        embeddings: the network's raw output, ``[n, d]``; it is normalized here, in float32.
        attributes: attributes of each face, with mean 0 and standard deviation 1 over the identities.
        labels: class of each face, ``[n]``; -1 marks a padding row without a face.

    Returns:
        The error, which is 1 for the initial map.
    """
    x = embeddings.astype(jnp.float32)
    length = jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True) + 1e-12)
    told = _SCALE * x / length @ regression.weight + regression.bias[None]
    errors = jnp.mean((told - attributes) ** 2, axis=1)
    is_face = labels >= 0
    return jnp.sum(jnp.where(is_face, errors, 0)) / jnp.maximum(jnp.sum(is_face), 1)


def read_attributes(path: StrPath, classes: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Read attributes of identities from a .csv file with a header and one line for each identity.

    The first column names the identity as the data does; the other columns are numbers. Lines of
    identities that are not in the data are ignored.

    Args:
        path: the .csv file.
        classes: the identities in the data, ``[C]``.

    Returns:
        float32 ``[C, k]``, with each attribute standardized to mean 0 and standard deviation 1.

    Raises:
        InputError: the file cannot be read, an identity is missing, or a value is not a finite number.
    """
    name = one_line(path)
    rows = _rows(path)
    header = rows[0] if rows else None
    if header is None or len(header) < 2:
        raise InputError(
            f"{name}: no attributes; start the file with a header identity,NAME,NAME,..."
        )
    found = {row[0]: _numbers(name, header, row) for row in rows[1:] if row}
    wanted = [str(identity) for identity in classes]
    missing = [identity for identity in wanted if identity not in found]
    if missing:
        raise InputError(
            f"{name}: no line for {len(missing)} of {len(wanted)} identities, such as "
            f"{one_line(missing[0])!r}; the first column must name the folder or class in the data"
        )
    values = np.stack([found[identity] for identity in wanted])
    spread = values.std(axis=0)
    return ((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)


def _rows(path: StrPath) -> list[list[str]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{one_line(path)}: is not a text file; give a .csv file") from error
    reader = csv.reader(io.StringIO(text))
    try:
        return list(reader)
    except csv.Error as error:
        raise csv_input_error(path, reader.line_num, error) from error


def _numbers(name: str, header: list[str], row: list[str]) -> np.ndarray:
    if len(row) != len(header):
        raise InputError(
            f"{name}: the line of {one_line(row[0])!r} has {len(row)} columns, but the first "
            f"line has {len(header)}"
        )
    try:
        values = np.array(row[1:], np.float64)
    except ValueError:
        values = np.full(1, np.nan)
    if not np.all(np.isfinite(values)):
        raise InputError(f"{name}: a value of {one_line(row[0])!r} is no finite number")
    return values
