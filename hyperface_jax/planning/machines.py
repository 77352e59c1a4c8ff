"""Machines for which a run can be planned: their devices, speeds and links."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hyperface_jax.errors import InputError
from hyperface_jax.pairwise import Precision
from hyperface_jax.pairwise.platforms import CACHED_BLOCK, gpu_block

_GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes:
        name: the kind of device, as in :func:`parse_devices`.
        num_devices: number of devices.
        peak_flops: peak rate of dense bfloat16 products in FLOP/s per device.
        memory_bytes: memory per device in bytes.
        memory_bandwidth: memory bandwidth per device in bytes/s.
        link_bandwidth: bandwidth of one link in one direction in bytes/s.
        efficiency: share of the peak rate that products reach.
        float32_passes: how many times as long a float32 product takes as a bfloat16 one.
        three_passes: the same for a float32 product of three bfloat16 ones.
        tf32_passes: the same for the default precision of float32 inputs.
        hop_seconds: latency of one transfer in seconds.
        traffic_factor: how many times the memory traffic of a step exceeds that of the model, in which
            tiles stay on chip.
        stores_tiles: whether tiles of scores are written to memory and read again, between the
            products, as XLA does on GPUs.
        linked_devices: largest number of devices that such links connect.
        devices_per_host: number of devices of one process.
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
    three_passes: float = 3.0
    hop_seconds: float = 1e-5
    traffic_factor: float = 1.0
    stores_tiles: bool = False
    linked_devices: int = 1
    devices_per_host: int = 8

    @property
    def num_hosts(self) -> int:
        """Number of hosts that the devices are on."""
        return -(-self.num_devices // self.devices_per_host)

    @property
    def is_pod_slice(self) -> bool:
        """Whether these are TPUs on several hosts."""
        return self.name in _TPUS and self.num_hosts > 1

    def flops_per_second(self, precision: Precision = "float32") -> float:
        """Return the FLOP/s that a device sustains in products of the given precision."""
        passes = {
            "float32": self.float32_passes,
            "bf16_x3": self.three_passes,
            "tf32": self.tf32_passes,
            "bf16": 1.0,
        }
        return self.peak_flops * self.efficiency / passes[precision]

    @property
    def is_accelerator(self) -> bool:
        """Whether coarser products than float32 are faster."""
        return self.name != "cpu"

    @property
    def largest_block(self) -> int:
        """Largest number of rows of a tile that the sweeps choose on this machine."""
        return gpu_block(_PREALLOCATED * self.memory_bytes) if self.stores_tiles else CACHED_BLOCK


_TPU_EFFICIENCY, _GPU_EFFICIENCY = 0.5, 0.7
"""Shares of the peak rate for kinds on which nothing has been measured. On GPUs what is done to scores
between the products counts apart; on TPUs it is in this share."""
_PREALLOCATED = 0.75
"""Share of a GPU's memory that JAX takes, unless told otherwise."""
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
        efficiency=_TPU_EFFICIENCY if is_tpu else _GPU_EFFICIENCY,
        float32_passes=6.0 if is_tpu else 15.0,
        tf32_passes=1.0 if is_tpu else 2.0,
        traffic_factor=4.0 if name == "v5p" else 1.0,
        stores_tiles=not is_tpu,
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
"""One device per kind: bfloat16 TFLOP/s, GiB, memory GB/s, link GB/s (one direction), linked devices.

TPUs: figures are from the specification pages of Cloud TPU (cloud.google.com/tpu/docs). Their
interconnect figure is for all links in both directions; about 90% of it is used here. A float32 product
takes six bfloat16 passes. Programs compiled for v5p move four times as many bytes as the model says,
because tiles do not stay on chip (``python -m benchmarks.tpu_aot``); those for v5e move about as many.

GPUs: figures are from NVIDIA's data sheets, for dense products and SXM: A100 80 GB, H100 and H200, and
B200 with 180 of its 192 GB; NVLink within one host. TF32 runs at half the bfloat16 rate, true float32
at a fifteenth. No product has been timed here on any of them.

cpu: figures were measured by ``python -m benchmarks.scaling`` on 2 cores of an AMD EPYC, see ``fit`` in
``benchmarks/results/amd-epyc-2-cores/scaling.json``: 142 GFLOP/s, 0.68 of the rate of a plain float32
product. Individual shapes take 0.80 to 1.33 times the time that this rate predicts. The link, a
10 Gbit/s network, and everything about several CPUs are assumptions.
"""


def parse_devices(text: str) -> Machine:
    """Parse a text such as ``"v5e:256"`` into a machine; a kind without a count means one device.

    Raises:
        InputError: the kind is unknown, or the count is not a positive whole number.

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
