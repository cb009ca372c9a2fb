"""An S3 server of the tests' own, with an empty bucket, and the environment that reaches it."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """Variables with which a process reaches `s3://bucket` while the block lasts."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        yield {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": address,
        }
    finally:
        server.stop()
