"""Images as clients send them: a file, and a form with a file in it."""

import io

import numpy as np
from PIL import Image
from support.load import request

_BOUNDARY = "benchmark"


def png(image: np.ndarray) -> bytes:
    """Pixels uint8 [1, S, S, 3] as a PNG, which loses nothing."""
    file = io.BytesIO()
    Image.fromarray(image[0]).save(file, "PNG")
    return file.getvalue()


def form(path: str, file: bytes) -> bytes:
    """A POST request with a file in the field `image`, as a browser or curl would send it."""
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = head.encode() + file + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return request(path, body, f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n")
