"""Machines to plan a run on: devices of a kind, how fast they are and how they are linked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hyperface_jax.errors import InputError
from hyperface_jax.pairwise import Precision

_GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes:
        name: the kind, as :func:`parse_devices` takes it.
        num_devices: how many.
        peak_flops: of dense bfloat16 products, FLOP/s a device.
        memory_bytes: of a device.
        memory_bandwidth: bytes/s a device.
        link_bandwidth: bytes/s of one link in one direction.
        efficiency: share of the peak that products reach.
        float32_passes: how many times longer a float32 product takes than a bfloat16 one.
        tf32_passes: the same for the default precision of float32 inputs.
        hop_seconds: latency of one transfer, in seconds.
        traffic_factor: how much more of its memory's bandwidth a step takes than tiles that stay on chip
            would need.
        is_fused: pairs are visited by the GPU kernel, which computes each tile once a side.
        linked_devices: most devices that such links connect.
        devices_per_host: devices of one process.
    """

    name: str
    num_devices: int
    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float
    link_bandwidth: float
    efficiency: float
    float32_passes: float
    tf32_passes: float = 1.0
    hop_seconds: float = 1e-5
    traffic_factor: float = 1.0
    is_fused: bool = False
    linked_devices: int = 1
    devices_per_host: int = 8

    @property
    def is_pod_slice(self) -> bool:
        """Whether these are TPUs of several hosts."""
        return self.name in _TPUS and self.num_devices > self.devices_per_host

    def flops_per_second(self, precision: Precision = "float32") -> float:
        """Return the FLOP/s that a device sustains in products of this precision."""
        passes = {"float32": self.float32_passes, "tf32": self.tf32_passes, "bf16": 1.0}
        return self.peak_flops * self.efficiency / passes[precision]


_ASSUMED_EFFICIENCY = 0.5
"""Share of the peak for kinds on which nothing has been measured."""
_TPUS = ("v5e", "v5p", "v6e")


def _accelerator(
    name: str, tflops: float, gib: float, memory: float, link: float, linked: int
) -> Machine:
    is_tpu = name in _TPUS
    return Machine(
        name,
        num_devices=1,
        peak_flops=tflops * 1e12,
        memory_bytes=gib * _GIB,
        memory_bandwidth=memory * 1e9,
        link_bandwidth=link * 1e9,
        efficiency=_ASSUMED_EFFICIENCY,
        float32_passes=6.0 if is_tpu else 15.0,
        tf32_passes=1.0 if is_tpu else 2.0,
        traffic_factor=4.0 if name == "v5p" else 1.0,
        is_fused=not is_tpu,
        linked_devices=linked,
        devices_per_host=4 if name == "v5p" else 8,
    )


_CPU = Machine(
    "cpu",
    num_devices=1,
    peak_flops=2.099e11,
    memory_bytes=25.28e9,
    memory_bandwidth=3.56e10,
    link_bandwidth=1.25e9,
    efficiency=0.678,
    float32_passes=1.0,
    devices_per_host=1,
)

KINDS = {
    machine.name: machine
    for machine in (
        _accelerator("v5e", 197, 16, 819, 45, 256),
        _accelerator("v5p", 459, 95, 2765, 90, 8960),
        _accelerator("v6e", 918, 32, 1640, 90, 256),
        _accelerator("a100", 312, 80, 2000, 300, 8),
        _accelerator("h100", 989, 80, 3350, 450, 8),
        _accelerator("h200", 989, 141, 4800, 450, 8),
        _accelerator("b200", 2250, 180, 8000, 900, 8),
        _CPU,
    )
}
"""One device of every kind: TFLOP/s in bfloat16, GiB, GB/s of memory, GB/s of a link and direction.

TPUs: the specification pages of Cloud TPU (cloud.google.com/tpu/docs), whose interconnect figure is
of all links in both directions; about 90 % of it is taken. A float32 product takes six bfloat16
passes. The programs compiled for v5p move four times the bytes of the model (its tiles do not stay on
chip; ``python -m benchmarks.tpu_aot``), those for v5e about as many.

GPUs: NVIDIA's data sheets, dense, SXM: A100 80 GB, H100 and H200, and B200 with 180 of its
192 GB; NVLink within one host. TF32 runs at half the bfloat16 rate, true float32 at a fifteenth.

cpu: measured by ``python -m benchmarks.scaling`` on 2 cores of an AMD EPYC, the ``fit`` of
``benchmarks/results/amd-epyc-2-cores/scaling.json``: 142 GFLOP/s, 0.68 of a plain float32 product;
single shapes take 0.80 to 1.33 times what that rate says. Its link, a 10 Gbit/s network, and
everything about several CPUs are assumed.
"""


def parse_devices(text: str) -> Machine:
    """Turn ``"v5e:256"`` into a machine; a bare kind is one device.

    Raises:
        InputError: for an unknown kind or a count that is none.

    Examples:
        >>> parse_devices("v5e:256").num_devices
        256
    """
    kind, _, count = text.partition(":")
    if kind not in KINDS:
        raise InputError(f"devices {text!r}: unknown kind {kind!r}, choose {', '.join(KINDS)}")
    if ":" not in text:
        return KINDS[kind]
    if not count.isascii() or not count.isdigit() or int(count) < 1:
        raise InputError(f"devices {text!r}: the count must be 1 or more, as in {kind}:8")
    return replace(KINDS[kind], num_devices=int(count))
