"""Export of backbones as ONNX files, whose weights keep their published PyTorch names.

The graph is written node by node, so that no tracer of another library stands between the network and
its file. It takes float32 ``[n, 3, size, size]`` scaled to ``(x - 127.5) / 127.5`` and returns raw
embeddings, as insightface's recognizers do. The file's metadata state its channel order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import hyperface_jax
from hyperface_jax.errors import InputError
from hyperface_jax.recognition.backbones import COLOR_ORDER, BatchNorm, Conv, PReLU
from hyperface_jax.recognition.weights import export_weights, named_layers

if TYPE_CHECKING:
    from flax import nnx

    from hyperface_jax.io.images import Color
    from hyperface_jax.recognition.backbones import Block, IResNet

PRODUCER = "hyperface_jax"
"""Producer that the files name, near their beginning."""
INPUT, OUTPUT = "input", "embedding"
SCALING = "(x - 127.5) / 127.5"
"""What is done to pixels, from 0 to 255, before they enter the network."""

_OPSET, _IR_VERSION = 17, 8
_EPSILON = 1e-5


def onnx_bytes(
    model: IResNet, *, own_color: Color | None = None, color: Color | None = None, source: str = ""
) -> bytes:
    """Return the content of an ONNX file of a backbone in evaluation mode.

    Args:
        model: the backbone.
        own_color: channel order of the backbone's training images; None uses that of its variant.
        color: channel order that the file takes; if it is the other one, the channels of the first
            kernel are exchanged. None keeps the backbone's own.
        source: digest of the weights, for the metadata.

    Returns:
        The file, with ``color``, ``scaling``, ``image_size`` and ``embedding_dim`` in its metadata.

    Raises:
        InputError: the library onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError("an ONNX file needs onnx; pip install '.[onnx]' in a checkout") from error
    own_color = own_color or COLOR_ORDER[model.config.variant]
    color = color or own_color
    graph = _Graph(model, onnx, is_flipped=color != own_color)
    size, dim = model.config.image_size, model.config.embedding_dim
    build = onnx.helper
    built = build.make_model(
        graph.built(size, dim),
        opset_imports=[build.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name=PRODUCER,
        producer_version=hyperface_jax.__version__,
    )
    told = {"color": color, "scaling": SCALING, "image_size": str(size), "embedding_dim": str(dim)}
    build.set_model_props(built, {**told, "weights_sha256": source} if source else told)
    onnx.checker.check_model(built)
    return built.SerializeToString()


class _Graph:
    """The nodes of a network, each named after the layer that it computes."""

    def __init__(self, model: IResNet, onnx: Any, *, is_flipped: bool) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._weights = export_weights(model)
        self._names = {id(layer): name for name, layer in named_layers(model)}
        if is_flipped:
            name = f"{self._names[id(model.conv)]}.weight"
            self._weights[name] = np.ascontiguousarray(self._weights[name][:, ::-1])
        self._add_network(model)

    def built(self, size: int, dim: int) -> Any:
        """Return the graph of a network for images of a size and embeddings of a dimension."""
        build, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        images = build.make_tensor_value_info(INPUT, kind, ["n", 3, size, size])
        out = build.make_tensor_value_info(OUTPUT, kind, ["n", dim])
        to_tensor = self._onnx.numpy_helper.from_array
        stored = [to_tensor(array, name) for name, array in self._arrays.items()]
        return build.make_graph(self._nodes, "recognizer", [images], [out], stored)

    def _add_network(self, model: IResNet) -> None:
        x = self._chain(INPUT, model.conv, model.norm, model.prelu)
        for i, block in enumerate(model.blocks):
            x = self._block(x, block, f"block{i}")
        x = self._node("Flatten", [self._layer(x, model.last_norm)], "flat", axis=1)
        name = self._names[id(model.fc)]
        weights = [self._stored(f"{name}.{part}") for part in ("weight", "bias")]
        x = self._node("Gemm", [x, *weights], name, transB=1)
        self._node("Identity", [self._layer(x, model.features)], OUTPUT)

    def _block(self, x: str, block: Block, name: str) -> str:
        layers = (block.norm1, block.conv1, block.norm2, block.prelu, block.conv2, block.norm3)
        y = self._chain(x, *layers)
        if block.shortcut is not None:
            x = self._chain(x, *block.shortcut.layers)
        elif block.stride > 1:
            strides = [block.stride] * 2
            x = self._node("MaxPool", [x], f"{name}.copy", kernel_shape=[1, 1], strides=strides)
        return self._node("Add", [y, x], f"{name}.sum")

    def _chain(self, x: str, *layers: Any) -> str:
        for layer in layers:
            x = self._layer(x, layer)
        return x

    def _layer(self, x: str, layer: nnx.Module) -> str:
        name = self._names[id(layer)]
        match layer:
            case Conv():
                weight = self._stored(f"{name}.weight")
                pads, strides = [self._weights[weight].shape[2] // 2] * 4, [layer.stride] * 2
                return self._node("Conv", [x, weight], name, pads=pads, strides=strides)
            case PReLU():
                slope = self._weights[f"{name}.weight"].reshape(-1, 1, 1)
                return self._node("PRelu", [x, self._stored(f"{name}.weight", slope)], name)
            case BatchNorm():
                numbers = [self._stored(*part) for part in self._norm_arrays(name)]
                return self._node("BatchNormalization", [x, *numbers], name, epsilon=_EPSILON)
        raise TypeError(f"no layer of a backbone: {type(layer).__name__}")

    def _norm_arrays(self, name: str) -> list[tuple[str, np.ndarray]]:
        """Return scale, bias, mean and variance; a norm without the first two scales by 1."""
        mean, var = (self._weights[f"{name}.running_{part}"] for part in ("mean", "var"))
        scale = self._weights.get(f"{name}.weight", np.ones_like(mean))
        bias = self._weights.get(f"{name}.bias", np.zeros_like(mean))
        values = {"weight": scale, "bias": bias, "running_mean": mean, "running_var": var}
        return [(f"{name}.{part}", value) for part, value in values.items()]

    def _stored(self, name: str, array: np.ndarray | None = None) -> str:
        self._arrays[name] = self._weights[name] if array is None else array
        return name

    def _node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        node = self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes)
        self._nodes.append(node)
        return name
