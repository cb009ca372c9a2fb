"""What many would build: one onnxruntime session per task behind FastAPI and uvicorn. Run by `servers.model_per_task`.

.venv/bin/python benchmarks/support/model_per_task.py DIRECTORY
"""

import socket
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response


def build(directory: Path) -> FastAPI:
    """An app that answers POST /TASK (pixels uint8 [1, S, S, 3] as bytes) with logits as bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = {
        file.stem: onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for file in sorted(directory.glob("*.onnx"))
    }
    sides = {name: session.get_inputs()[0].shape[1] for name, session in sessions.items()}
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> bool:
        return True

    @app.post("/{task}")
    async def infer(task: str, request: Request) -> Response:
        side = sides[task]
        pixels = np.frombuffer(await request.body(), np.uint8).reshape(-1, side, side, 3)
        (logits,) = sessions[task].run(None, {"images": pixels})
        return Response(np.asarray(logits).tobytes())

    return app


if __name__ == "__main__":
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(build(Path(sys.argv[1])), log_level="error", access_log=False)
        sys.stderr.write(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
        sys.stderr.flush()
        uvicorn.Server(config).run(sockets=[listening])
