"""Asynchronous checkpoints of an optimizer state, by orbax."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax.errors import InputError

try:
    import orbax.checkpoint as ocp
except ImportError as error:
    raise InputError(
        "checkpoints need orbax-checkpoint: pip install '.[cli]' in a checkout"
    ) from error

_MOST_BYTES_COPIED = 2**30
_SIGNS_OF_FULLNESS = ("No space left", "Disk quota", "RESOURCE_EXHAUSTED")

# orbax raises every error that it logs, so its log is redundant.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoint(NamedTuple):
    """A restored state, and the notes that were saved with it."""

    state: Any
    notes: dict[str, Any]


class Checkpointer:
    """Keep the two latest checkpoints of a state under ``path``.

    Saving copies the state and returns. The files are written in the background and renamed when they
    are complete, so a kill at any moment leaves the last complete checkpoint. A state that is too large
    to copy is written before :meth:`save` returns. All processes of a job call the methods together,
    and each writes the rows of its own devices.
    """

    def __init__(self, path: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
        self._path = path
        self._manager = ocp.CheckpointManager(path.absolute(), options=options)

    def save(self, step: int, state: Any, notes: dict[str, Any]) -> None:
        """Start saving a state (a pytree of arrays; PRNG keys are saved as their data).

        Raises:
            InputError: the disk is too full; existing checkpoints stay.
        """
        plain = _without_keys(state)
        self._check_room(_local_bytes(plain))
        is_large = _local_bytes(plain) > _MOST_BYTES_COPIED
        # The optimizer donates the state's buffers to its next scan while the copy is being written.
        saved = plain if is_large else jax.tree.map(jnp.copy, plain)
        with self._explaining():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(saved), notes=ocp.args.JsonSave(notes)
                ),
            )
            if is_large:
                self._manager.wait_until_finished()

    def _check_room(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self._path).free
        if free < num_bytes:
            raise self._full(
                f"{free / 2**20:.0f} MiB are free and {num_bytes / 2**20:.0f} are needed"
            )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn the many errors that orbax raises when it cannot write into a helpful one."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) or any(sign in str(error) for sign in _SIGNS_OF_FULLNESS):
                raise self._full(str(error).strip().splitlines()[0][:200]) from error
            raise

    def _full(self, reason: str) -> InputError:
        return InputError(
            f"{self._path}: cannot write a checkpoint: {reason}; free some space and run the same "
            "again, the last complete checkpoint is kept"
        )

    def restore(self, like: Any) -> Checkpoint | None:
        """Return the latest checkpoint in the structure of ``like``, or None if there is none.

        ``like`` holds arrays, or only their shapes, so that no second state needs to be in memory. The
        restored arrays get its shardings. If ``like`` has more rows than the checkpoint, rows of zeros
        are added; if it has fewer, the last rows, which must be zeros, are dropped. A run can therefore
        resume with a different number of devices.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        plain = _without_keys(like)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    plain, restore_args=jax.tree.map(_restore_args, plain)
                ),
                notes=ocp.args.JsonRestore(),
            ),
        )
        return Checkpoint(_with_keys(restored["state"], like), restored["notes"])

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until every checkpoint is on disk."""
        with self._explaining():
            self._manager.wait_until_finished()
            self._manager.close()


def _restore_args(leaf: Any) -> Any:
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return ocp.ArrayRestoreArgs(
        dtype=leaf.dtype, sharding=sharding, global_shape=leaf.shape, strict=False
    )


def _local_bytes(tree: Any) -> int:
    shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(state: Any) -> Any:
    def plain(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        if isinstance(leaf, jax.Array):
            return jax.random.key_data(leaf)
        data = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)

    return jax.tree.map(plain, state)


def _with_keys(state: Any, like: Any) -> Any:
    return jax.tree.map(lambda a, b: jax.random.wrap_key_data(a) if _is_key(b) else a, state, like)
