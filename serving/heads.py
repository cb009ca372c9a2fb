"""HTTP as uvicorn and httptools read it, with a limit to what is not a body: request line, headers, trailers."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD = 64 * 1024
"""Bytes of a request line with its headers. What the parser was given at once, 256 KiB, may be read beyond it."""
_FRAMING = 8
"""Bytes around a byte of a body that comes in chunks of one byte."""
_TOO_LARGE = b"Request header fields too large."
_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_TOO_LARGE), _TOO_LARGE)
)


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection (431) whose request has more than `MOST_HEAD` bytes that are not its body.

    httptools has no limit of its own: it gathers a header of any length, and trailers without end.
    """

    _spent = 0

    def data_received(self, data: bytes) -> None:
        self._spent += len(data)
        super().data_received(data)
        if self._spent > MOST_HEAD:
            self._refuse()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_ANSWER)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():  # it has its answer else
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        self._spent = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD:
            self._refuse()
            raise ValueError("the head is too large")  # which ends the parsing
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._spent -= (1 + _FRAMING) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._spent = 0
        super().on_message_complete()
