"""The processes of a job: how they find each other, and what they do together."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperface_jax.errors import PeerError

_HEARTBEAT_SECONDS = 30
"""Seconds of silence after which a process counts as lost."""
_MASKS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def initialize(*, force: bool = False) -> bool:
    """Join the processes of a job, if there are several; call this before the first use of a device.

    This reads, in this order: ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and
    ``JAX_PROCESS_ID`` (plain processes); ``MASTER_ADDR``, ``MASTER_PORT``, ``WORLD_SIZE`` and ``RANK``
    (torchrun; JAX takes the port after torchrun's own); and what JAX itself detects (Slurm steps,
    Open MPI, GKE and Cloud TPU).

    Args:
        force: join even if no variable indicates other processes, as on a Cloud TPU pod slice.

    Returns:
        Whether this is one of several processes.

    Raises:
        ValueError: if the variables contradict each other.
    """
    settings = process_settings(os.environ)
    if settings is None and not force:
        return False
    jax.distributed.initialize(**(settings or {}), heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    return jax.process_count() > 1


def process_settings(environment: Any) -> dict[str, Any] | None:
    """Return the arguments of ``jax.distributed.initialize``; None if this is a single process."""
    for find in (_plain_processes, _torchrun, _detected_by_jax):
        if (settings := find(environment)) is not None:
            return settings
    return None


def _plain_processes(environment: Any) -> dict[str, Any] | None:
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    found = [name for name in names if environment.get(name)]
    if "JAX_NUM_PROCESSES" not in found and "JAX_PROCESS_ID" not in found:
        return None
    if len(found) < len(names):
        missing = ", ".join(sorted(set(names) - set(found)))
        raise ValueError(f"{', '.join(found)} is set and {missing} is not: set all or none")
    return _checked(
        environment["JAX_COORDINATOR_ADDRESS"],
        _integer(environment, "JAX_NUM_PROCESSES"),
        _integer(environment, "JAX_PROCESS_ID"),
    )


def _torchrun(environment: Any) -> dict[str, Any] | None:
    if "RANK" not in environment or _integer(environment, "WORLD_SIZE", 1) <= 1:
        return None
    address = environment.get("MASTER_ADDR", "localhost")
    port = _integer(environment, "MASTER_PORT", 29500) + 1
    settings = _checked(
        f"{address}:{port}", _integer(environment, "WORLD_SIZE"), _integer(environment, "RANK")
    )
    num_local = _integer(environment, "LOCAL_WORLD_SIZE", 1)
    if settings and num_local > 1:
        visible = _num_visible(environment)
        own = [_integer(environment, "LOCAL_RANK")]
        if visible is not None and visible < num_local:
            # Other processes on the machine must see other GPUs, so this one owns all it can see.
            own = list(range(visible))
        settings["local_device_ids"] = own
    return settings


def _num_visible(environment: Any) -> int | None:
    """Count the GPUs that the environment lets this process see; return None if it hides none."""
    masks = [environment[name] for name in _MASKS if name in environment]
    if not masks:
        return None
    # Drivers ignore everything after a name that they do not know, such as -1.
    return min(len(list(itertools.takewhile(_is_device, mask.split(",")))) for mask in masks)


def _is_device(name: str) -> bool:
    return name.strip() not in ("", "-1")


def _detected_by_jax(environment: Any) -> dict[str, Any] | None:
    sizes = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    is_job = any(_integer(environment, name, 1) > 1 for name in sizes)
    is_pod = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    if not (is_job or is_pod or environment.get("MEGASCALE_COORDINATOR_ADDRESS")):
        return None
    # JAX would take the process's local number as the device id, but this process sees one device.
    return {"local_device_ids": [0]} if is_job and _num_visible(environment) == 1 else {}


def _checked(address: str, num_processes: int, process_id: int) -> dict[str, Any] | None:
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"process {process_id} of {num_processes}: must be at least 0 and less than the total"
        )
    if num_processes == 1:
        return None
    return {
        "coordinator_address": address,
        "num_processes": num_processes,
        "process_id": process_id,
    }


def _integer(environment: Any, name: str, default: int | None = None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={text!r}: must be a whole number") from None


def is_first_process() -> bool:
    """Tell whether this process acts for the job: only that one prints and writes small files."""
    return jax.process_index() == 0


def on_first_process(function: Callable[[], Any], *, after: str | None = None) -> Any:
    """Run ``function`` on the first process, while the others wait to hear whether it succeeded.

    Args:
        function: what to run.
        after: a name for a barrier; if given, the first process waits for all processes to arrive
            here before it runs ``function``.

    Returns:
        On the first process, what ``function`` returned; on the others, None.

    Raises:
        Exception: on the first process, whatever ``function`` raised.
        PeerError: on the others, if ``function`` raised on the first.
    """
    if jax.process_count() == 1:
        return function()
    if after is not None:
        multihost_utils.sync_global_devices(after)
    result, error = None, None
    if is_first_process():
        try:
            result = function()
        except Exception as raised:
            error = raised
    failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
    if error is not None:
        raise error
    if failed:
        raise PeerError("the first process stopped; its own message says why")
    return result


def any_process(*flags: bool) -> tuple[bool, ...]:
    """Tell for each flag whether any process has set it; all processes must call this."""
    if jax.process_count() == 1:
        return flags
    gathered = multihost_utils.process_allgather(np.array(flags))
    return tuple(bool(flag) for flag in np.any(gathered, axis=0))
