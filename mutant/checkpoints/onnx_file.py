"""ONNX graphs: their initializers, anonymous matrices named after the biases that are added to their products."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mutant.tasks.errors import UserError, missing_extra


def read_onnx(path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """All initializers of an ONNX graph by name.

    PyTorch's export turns `y = x W + b` into MatMul with a nameless matrix and Add with the named bias `NAME.bias`:
    such a matrix [in, out] is given as `NAME.kernel`. Data outside the file is refused. Raises `MissingExtra` without
    the package `onnx`.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise missing_extra("onnx", "onnx") from None
    try:
        graph = onnx.load(str(path), load_external_data=False).graph  # pyright: ignore[reportUnknownMemberType]
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
            raise UserError(f"{path.name} keeps its weights outside the file.")
        arrays = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except UserError:
        raise
    except Exception as error:  # protobuf and onnx raise many types on damaged bytes
        raise UserError(f"{path.name} is not a sound ONNX file: {error}.") from error
    return arrays | _named_matrices(graph, arrays)


def _named_matrices(graph: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """`NAME.kernel` for each initializer that a MatMul multiplies by before `NAME.bias` is added."""
    products: dict[str, str] = {}
    named: dict[str, np.ndarray[Any, Any]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and len(node.input) == 2 and node.input[1] in arrays:
            products.update(dict.fromkeys(node.output, node.input[1]))
        elif node.op_type == "Add":
            bias = next((name for name in node.input if name in arrays and name.endswith(".bias")), None)
            matrix = next((products[name] for name in node.input if name in products), None)
            if bias is not None and matrix is not None:
                named[bias.removesuffix(".bias") + ".kernel"] = arrays[matrix]
    return named
