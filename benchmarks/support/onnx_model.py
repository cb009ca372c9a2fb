"""A path of the EfficientNet-Lite family as an ONNX model, batch norms folded into the convolutions as one would."""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mutant.component import Component
from mutant.path import Path
from mutant.storage.store import Store

Array = np.ndarray[Any, Any]


def write(path: Path, components: Mapping[str, Component], file: FilePath) -> None:
    """Write the path's network: images uint8 [n, S, S, 3] to logits float32 [n, classes]."""
    graph = _Graph()
    x = "images"
    for part in path.parts:
        arrays = components[part.digest].arrays
        x = _LAYERS[part.spec.kind](graph, x, part.spec, arrays)
    size = path.hyperparameters.image_size
    pixels = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 3])
    logits = helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", path.parts[-1].spec["classes"]])
    made = helper.make_graph(graph.nodes, "path", [pixels], [logits], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))


def export(database: FilePath, names: Sequence[str], directory: FilePath) -> None:
    """Write the best path of each task as `directory/NAME.onnx`."""
    with Store.open(str(database), read_only=True) as store:
        for name in names:
            path = store.best(name)
            assert path is not None
            write(path, store.components({part.digest for part in path.parts}), directory / f"{name}.onnx")


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def convolution(self, x: str, kernel: Array, shift: Array, stride: int = 1, groups: int = 1) -> str:
        """kernel [out, in / groups, k, k]; padding SAME."""
        names = (x, self.constant(kernel), self.constant(shift))
        return self.node("Conv", *names, strides=[stride, stride], group=groups, auto_pad="SAME_UPPER")

    def relu6(self, x: str) -> str:
        return self.node("Clip", x, self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32)))


def _folded(arrays: Mapping[str, Array], name: str, eps: float) -> tuple[Array, Array]:
    factor = arrays[f"{name}scale"] / np.sqrt(arrays[f"{name}var"] + eps)
    return factor, arrays[f"{name}bias"] - arrays[f"{name}mean"] * factor


def _embedding(graph: _Graph, x: str, spec: Any, arrays: Mapping[str, Array]) -> str:
    factor, shift = _folded(arrays, "norm/", spec["eps"])
    mean, std = (np.array(spec[name], np.float32) for name in ("mean", "std"))
    x = graph.node("Cast", x, to=TensorProto.FLOAT)
    x = graph.node("Div", graph.node("Sub", x, graph.constant(mean)), graph.constant(std))
    x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
    kernel = (arrays["kernel"] * factor).transpose(3, 2, 0, 1)
    return graph.relu6(graph.convolution(x, kernel, shift, spec["stride"]))


def _pointwise(graph: _Graph, x: str, arrays: Mapping[str, Array], name: str, eps: float) -> str:
    factor, shift = _folded(arrays, f"{name}/norm/", eps)
    return graph.convolution(x, (arrays[f"{name}/kernel"] * factor).T[:, :, None, None], shift)


def _block(graph: _Graph, x: str, spec: Any, arrays: Mapping[str, Array]) -> str:
    eps = spec["eps"]
    hidden = x if spec["expand"] == 1 else graph.relu6(_pointwise(graph, x, arrays, "expand", eps))
    factor, shift = _folded(arrays, "depthwise/norm/", eps)
    kernel = (arrays["depthwise/kernel"] * factor).transpose(2, 0, 1)[:, None]
    hidden = graph.relu6(graph.convolution(hidden, kernel, shift, spec["stride"], groups=len(shift)))
    out = _pointwise(graph, hidden, arrays, "project", eps)
    same = spec["stride"] == 1 and spec["features_in"] == spec["features"]
    return graph.node("Add", x, out) if same else out


def _top(graph: _Graph, x: str, spec: Any, arrays: Mapping[str, Array]) -> str:
    kernel = arrays["kernel"].T[:, :, None, None]
    return graph.convolution(x, kernel, np.zeros(len(kernel), np.float32))


def _norm(graph: _Graph, x: str, spec: Any, arrays: Mapping[str, Array]) -> str:
    factor, shift = (value[:, None, None] for value in _folded(arrays, "norm/", spec["eps"]))
    x = graph.node("Add", graph.node("Mul", x, graph.constant(factor)), graph.constant(shift))
    return graph.node("ReduceMean", graph.relu6(x), axes=[2, 3], keepdims=0)


def _head(graph: _Graph, x: str, spec: Any, arrays: Mapping[str, Array]) -> str:
    return graph.node("Gemm", x, graph.constant(arrays["kernel"]), graph.constant(arrays["bias"]))


_LAYERS = {
    "efficientnet/embedding": _embedding,
    "efficientnet/block": _block,
    "efficientnet/top": _top,
    "efficientnet/norm": _norm,
    "head": _head,
}
