"""Import and export of weights under the names and in the layouts of the published PyTorch networks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line
from hyperface_jax.io.torch_files import read_state_dict
from hyperface_jax.recognition.backbones import (
    DROPOUT,
    BackboneConfig,
    BatchNorm,
    Conv,
    IResNet,
    Linear,
    PReLU,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hyperface_jax.io.files import StrPath
    from hyperface_jax.recognition.backbones import Variant

RUN_WEIGHTS = "model.safetensors"
RUN_SETTINGS = "model.json"
"""File of a training run with the network's settings; ``RUN_WEIGHTS`` has the published names."""

PREFIXES = ("module.", "model.", "backbone.", "net.")
"""Prefixes that wrappers put before names. All are stripped, in any order and number."""

_INNER_WRAPPERS = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""Parts that PyTorch inserts anywhere in a name for torch.compile, sharding and recomputation."""

_OF_CVLFACE = re.compile(r"((module|_orig_mod|model)\.)*net\.")

_COUNTER = "num_batches_tracked"
_STEMS: dict[Variant, str] = {"insightface": "conv1.weight", "adaface": "input_layer.0.weight"}
_SHOWN = 8
_LOOKS = (
    (r"\.(se|se_block|se_module)\.|\.res_layer\.\d+\.fc[12]\.", "squeeze-and-excitation (IR-SE)"),
    (r"(^|\.)(cls_token|pos_embed|patch_embed\.)", "a vision transformer"),
    (r"(^|\.)(conv_dw|conv_6_dw|depthwise)\.", "a MobileFaceNet"),
)
"""Networks that are often mistaken for IR networks, by patterns of their weight names."""


class ImportReport(NamedTuple):
    """A report on which names of a weight file were used, with prefixes stripped.

    Attributes:
        used: names of weights that were copied into the model.
        missing: batch counters that the file lacks; nothing needs them.
        unexpected: names of a classifier or loss next to the network, which are not used.
        is_cvlface: whether the names are wrapped as those of CVLface, whose networks take RGB or BGR
            regardless of their variant.
    """

    used: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    is_cvlface: bool = False


class _Entry(NamedTuple):
    key: str
    variable: nnx.Variable
    layout: _Layout


class _Layout(NamedTuple):
    """PyTorch's shape of a weight, the order in which our layout has its axes, and our shape."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    own_shape: tuple[int, ...]

    def read(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.shape).transpose(self.order).reshape(self.own_shape)

    def write(self, array: np.ndarray) -> np.ndarray:
        moved = [self.shape[axis] for axis in self.order]
        return array.reshape(moved).transpose(np.argsort(self.order))


def import_weights(
    model: IResNet, state_dict: Mapping[str, np.ndarray], *, source: str = "weights"
) -> ImportReport:
    """Put published weights into a model.

    Args:
        model: a model of the same variant and shape; it is changed in place, and only if all weights
            are valid.
        state_dict: arrays under PyTorch's names; ``PREFIXES`` are stripped.
        source: name of the file in error messages.

    Returns:
        The names that were used, missing and unexpected.

    Raises:
        InputError: a weight is missing, is not finite or has the wrong shape or type, or the file holds
            weights of layers that the model does not have.
    """
    arrays = strip_prefixes(state_dict, source=source)
    entries = list(_entries(model))
    used = [entry.key for entry in entries]
    counters = [f"{prefix}.{_COUNTER}" for prefix in _norm_prefixes(model)]
    needed = f"the {model.config.variant} network with {sum(model.config.depths)} blocks"
    if missing := [key for key in used if key not in arrays]:
        raise InputError(
            f"{source}: lacks {_listed(missing)}{_looks(arrays)}; give weights of {needed}"
        )
    unexpected = {key: arrays[key] for key in sorted(set(arrays) - {*used, *counters})}
    if foreign := _foreign(unexpected, used, model.config.embedding_dim):
        raise InputError(
            f"{source}: {len(foreign)} of its weights have no place in {needed}: "
            f"{_listed(foreign)}{_looks(foreign)}; give weights of that network alone"
        )
    values = [_checked(entry, arrays[entry.key], source) for entry in entries]
    for entry, value in zip(entries, values, strict=True):
        entry.variable.set_value(jnp.asarray(value))
    lacking = [key for key in counters if key not in arrays]
    return ImportReport(tuple(used), tuple(lacking), tuple(unexpected))


def _foreign(unexpected: Mapping[str, np.ndarray], used: list[str], dim: int) -> list[str]:
    """Return the names that must belong to layers of a network, not to a classifier or a loss."""
    roots = {_root(key) for key in used}
    modules: dict[str, list[str]] = {}
    for key in unexpected:
        modules.setdefault(_root(key), []).append(key)
    return [
        key
        for root, keys in modules.items()
        if root in roots or not all(_may_be_of_head(name, unexpected[name], dim) for name in keys)
        for key in keys
    ]


def _root(key: str) -> str:
    return key.partition(".")[0]


def _may_be_of_head(key: str, array: np.ndarray, dim: int) -> bool:
    """Tell whether a weight may hold class centers, a bias or a running statistic of a loss."""
    is_norm = key.endswith((".running_mean", ".running_var", _COUNTER))
    return not is_norm and (array.ndim < 2 or (array.ndim == 2 and dim in array.shape))


def _looks(keys: Iterable[str]) -> str:
    """Return a clause that says which other network the names look like, or an empty string."""
    found = (what for pattern, what in _LOOKS if any(re.search(pattern, key) for key in keys))
    what = next(found, None)
    return f", which looks like {what}" if what else ""


def export_weights(model: IResNet) -> dict[str, np.ndarray]:
    """Return the weights under PyTorch's names, ready for ``load_state_dict(strict=True)``.

    The batch counters are set to 0, since nothing reads them.
    """
    arrays = {}
    for key, variable, layout in _entries(model):
        value = np.asarray(variable.get_value())
        arrays[key] = np.ascontiguousarray(layout.write(value)).reshape(_torch_shape(layout))
    counters = {f"{prefix}.{_COUNTER}": np.zeros((), np.int64) for prefix in _norm_prefixes(model)}
    return {**arrays, **counters}


def load_model(path: StrPath, *, dtype: Any = jnp.float32) -> tuple[IResNet, ImportReport]:
    """Read a weight file, and build the network that its names and shapes describe.

    Args:
        path: a .pt, .pth, .ckpt or .safetensors file of an IR network in either variant.
        dtype: type in which the convolutions compute, float32 or bfloat16.

    Returns:
        The model in evaluation mode, and the report on the names.

    Raises:
        InputError: the file cannot be used; see :func:`read_state_dict` and :func:`import_weights`.
    """
    source = one_line(path)
    stored = read_state_dict(path)
    arrays = strip_prefixes(stored, source=source)
    config = find_config(arrays, source=source)
    # Only shapes: weights that are about to be overwritten need not be drawn.
    model = nnx.eval_shape(lambda: IResNet(config, dtype=dtype, rngs=nnx.Rngs(0)))
    report = import_weights(model, arrays, source=source)
    model.eval()
    return model, report._replace(is_cvlface=any(_OF_CVLFACE.match(key) for key in stored))


def strip_prefixes(
    state_dict: Mapping[str, np.ndarray], *, source: str = "weights"
) -> dict[str, np.ndarray]:
    """Strip ``PREFIXES`` from every name, and the parts that torch.compile and others insert.

    Raises:
        InputError: two names become the same.
    """
    arrays: dict[str, np.ndarray] = {}
    for key, array in state_dict.items():
        name = _INNER_WRAPPERS.sub("", key)
        while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
            name = name.removeprefix(prefix)
        if name in arrays:
            raise InputError(f"{source}: holds {name!r} under two prefixes; remove one of the two")
        arrays[name] = array
    return arrays


def find_config(arrays: Mapping[str, np.ndarray], *, source: str = "weights") -> BackboneConfig:
    """Infer the shape of the network from the names and shapes of its weights.

    Args:
        arrays: arrays under PyTorch's names, without prefixes.
        source: name of the file in error messages.

    Returns:
        The shape.

    Raises:
        InputError: the weights do not belong to an IR network.
    """
    variant: Variant | None = next((v for v, stem in _STEMS.items() if stem in arrays), None)
    if variant is None:
        raise InputError(
            f"{source}: has neither {' nor '.join(_STEMS.values())}; give an IR network's weights "
            f"(found {_listed(sorted(arrays))}{_looks(arrays)})"
        )
    is_adaface = variant == "adaface"
    names = ("body.", ".res_layer.1.weight") if is_adaface else ("layer", ".conv1.weight")
    widths = _widths(arrays, *names)
    fc = arrays.get("output_layer.3.weight" if is_adaface else "fc.weight")
    if not widths or fc is None or fc.ndim != 2 or fc.shape[1] < max(widths):
        raise InputError(f"{source}: lacks blocks or the last linear layer; give the whole network")
    stages = sorted(set(widths))
    map_size = round((fc.shape[1] / stages[-1]) ** 0.5)
    return BackboneConfig(
        depths=tuple(widths.count(width) for width in stages),
        widths=tuple(stages),
        variant=variant,
        image_size=map_size * 2 ** len(stages),
        embedding_dim=fc.shape[0],
        dropout=DROPOUT[variant],
    )


def _widths(arrays: Mapping[str, np.ndarray], starts: str, ends: str) -> list[int]:
    """Return the width of every block, read from its first convolution."""
    found = (a for key, a in arrays.items() if key.startswith(starts) and key.endswith(ends))
    return [array.shape[0] for array in found if array.ndim == 4]


def _checked(entry: _Entry, array: np.ndarray, source: str) -> np.ndarray:
    """Check a weight, and return it in float32 and in our layout."""
    expected = _torch_shape(entry.layout)
    if array.shape != expected:
        raise InputError(
            f"{source}: {entry.key!r} is of shape {array.shape}, not {expected}; give weights of "
            "the same network"
        )
    if not np.issubdtype(array.dtype, np.floating) and array.dtype != ml_dtypes.bfloat16:
        raise InputError(
            f"{source}: {entry.key!r} is of type {array.dtype}; give weights that are not quantised"
        )
    value = array.astype(np.float32)
    if not np.all(np.isfinite(value)):
        raise InputError(
            f"{source}: {entry.key!r} holds NaN or infinity; take an earlier checkpoint"
        )
    return entry.layout.read(value)


def _torch_shape(layout: _Layout) -> tuple[int, ...]:
    """Return the shape in the file, where the columns of a linear layer are a single axis."""
    is_linear = len(layout.own_shape) == 2
    return (layout.shape[0], layout.own_shape[0]) if is_linear else layout.shape


def _listed(keys: list[str]) -> str:
    shown = ", ".join(one_line(key) for key in keys[:_SHOWN])
    more = len(keys) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"


def _entries(model: IResNet) -> Iterator[_Entry]:
    """Yield every weight with its published name and layout."""
    for prefix, layer in named_layers(model):
        for suffix, variable in _variables(layer):
            yield _Entry(f"{prefix}.{suffix}", variable, _layout(variable, model.config))


def _norm_prefixes(model: IResNet) -> list[str]:
    return [prefix for prefix, layer in named_layers(model) if isinstance(layer, BatchNorm)]


def _variables(layer: nnx.Module) -> Iterator[tuple[str, nnx.Variable]]:
    match layer:
        case Conv():
            yield "weight", layer.kernel
        case PReLU():
            yield "weight", layer.slope
        case Linear():
            yield "weight", layer.kernel
            yield "bias", layer.bias
        case BatchNorm():
            if layer.scale is not None and layer.bias is not None:
                yield "weight", layer.scale
                yield "bias", layer.bias
            yield "running_mean", layer.mean
            yield "running_var", layer.var


def _layout(variable: nnx.Variable, config: BackboneConfig) -> _Layout:
    own = tuple(variable.shape)
    if len(own) == 4:
        return _Layout((own[3], own[2], own[0], own[1]), (2, 3, 1, 0), own)
    if len(own) == 2:
        # PyTorch flattens [channels, height, width]; this package flattens [height, width, channels].
        side = config.map_size
        return _Layout((own[1], config.widths[-1], side, side), (2, 3, 1, 0), own)
    return _Layout(own, (0,), own)


def named_layers(model: IResNet) -> Iterator[tuple[str, nnx.Module]]:
    """Yield every layer with weights and its published name, in the published order."""
    yield from (_adaface_layers if model.config.variant == "adaface" else _insightface_layers)(
        model
    )


def _insightface_layers(model: IResNet) -> Iterator[tuple[str, nnx.Module]]:
    yield from (("conv1", model.conv), ("bn1", model.norm), ("prelu", model.prelu))
    blocks = iter(model.blocks)
    for stage, depth in enumerate(model.config.depths, start=1):
        for i in range(depth):
            block, prefix = next(blocks), f"layer{stage}.{i}"
            names = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")
            yield from _block_layers(block, [f"{prefix}.{name}" for name in names])
            if block.shortcut is not None:
                for j, layer in enumerate(block.shortcut.layers):
                    yield f"{prefix}.downsample.{j}", layer
    yield from (("bn2", model.last_norm), ("fc", model.fc), ("features", model.features))


def _adaface_layers(model: IResNet) -> Iterator[tuple[str, nnx.Module]]:
    for j, layer in enumerate((model.conv, model.norm, model.prelu)):
        yield f"input_layer.{j}", layer
    for i, block in enumerate(model.blocks):
        if block.shortcut is not None:
            for j, layer in enumerate(block.shortcut.layers):
                yield f"body.{i}.shortcut_layer.{j}", layer
        yield from _block_layers(block, [f"body.{i}.res_layer.{j}" for j in range(6)])
    for j, layer in ((0, model.last_norm), (3, model.fc), (4, model.features)):
        yield f"output_layer.{j}", layer


def _block_layers(block: Any, names: list[str]) -> Iterator[tuple[str, nnx.Module]]:
    layers = (block.norm1, block.conv1, block.norm2, block.prelu, block.conv2, block.norm3)
    yield from zip(names, layers, strict=True)
