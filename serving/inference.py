"""One inference of the Open Inference Protocol v2, however it came: a request's tensors in, an answer's out."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mutant.network import probabilities
from mutant.serving.asking import Asker, Question
from mutant.serving.decoding import Pixels
from mutant.serving.refusals import Refused
from mutant.serving.served import Served
from mutant.serving.snapshot import Snapshot
from mutant.serving.tensors import InferRequest, RequestOutput, Tensor, flag, shown

OUTPUTS = ("logits", "probabilities", "label")
EXTENSIONS = ("binary_tensor_data", "model_repository")


def indexed(snapshot: Snapshot) -> list[tuple[str, str, str, str]]:
    """Name, version, state and reason of every task, for the repository's index."""
    rows = [(name, one.version, "READY", "") for name, one in snapshot.served.items()]
    rows += [(name, "", "UNAVAILABLE", "no finished path yet") for name in snapshot.unlearnt]
    why = "its weights are damaged, or do not give its golden outputs"
    return rows + [(name, "", "UNAVAILABLE", why) for name in snapshot.damaged]


async def infer(
    asker: Asker,
    path: Served,
    asked: InferRequest,
    given: Sequence[bytes | Pixels],
    watch: "Callable[[], asyncio.Future[None]]",
) -> list[tuple[Tensor, bool]]:
    """The outputs that were asked for, of the images `given`, each with whether it goes as binary data.

    `watch` gives what is done when the client has gone; it is called once there is something to wait for. Raises
    Refused.
    """
    wanted = _outputs(asked.outputs)
    default = flag(asked.parameters, "binary_data_output", False)
    as_binary = [flag(one.parameters, "binary_data", default) for one in wanted]
    question = Question([path], given, asker.seconds(_timeout(asked)))
    answer = await asker.ask(question, watch())
    asker.service.metrics.predictions.labels(path.task.name).inc(len(question.images))
    tensors = _tensors(path, answer.logits[path.version])
    return [(tensors[one.name], binary) for one, binary in zip(wanted, as_binary, strict=True)]


def _outputs(asked: Sequence[RequestOutput]) -> Sequence[RequestOutput]:
    for one in asked:
        if one.name not in OUTPUTS:
            raise Refused(422, f"There is no output '{one.name[:40]}'.", f"Outputs: {', '.join(OUTPUTS)}.")
    return asked or [RequestOutput(name=name) for name in OUTPUTS]


def _timeout(asked: InferRequest) -> float | None:
    """Milliseconds out of the parameter `timeout`, which is in microseconds."""
    given = asked.parameters.get("timeout")
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e13:
        raise Refused(422, f"Parameter 'timeout' is a number of microseconds, not {shown(given)}.")
    return given / 1000


def _tensors(path: Served, logits: Any) -> dict[str, Tensor]:
    shares = probabilities(logits)
    labels = np.array([path.task.class_names[int(i)] for i in np.argmax(shares, axis=1)], dtype=object)
    return {
        "logits": Tensor("logits", "FP32", logits),
        "probabilities": Tensor("probabilities", "FP32", shares),
        "label": Tensor("label", "BYTES", labels),
    }
