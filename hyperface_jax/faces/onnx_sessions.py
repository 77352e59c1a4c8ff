"""Sessions of onnxruntime for ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_SILENT = 4


def open_session(path: StrPath) -> Any:
    """Open an ONNX file on a GPU if onnxruntime supports one, otherwise on the CPU.

    Raises:
        InputError: onnxruntime is not installed, or the file is not an ONNX model.
    """
    name = one_line(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"{name}: ONNX models need onnxruntime; pip install '.[onnx]' in a checkout"
        ) from error
    available = onnxruntime.get_available_providers()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    providers = [provider for provider in _PROVIDERS if provider in available]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own types share no base
        raise InputError(
            f"{name}: no ONNX model, or damaged ({one_line(error)}); export or download it again"
        ) from error
