"""The files that the page is made of, with what a browser is told about them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

INDEX = "index.html"
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Nothing from other hosts and no script or style in the page itself; `blob:` is the image that a visitor chose."""
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
}
"""`no-cache`: a browser keeps the file and asks whether its hash is still the same."""


@dataclass(frozen=True)
class Asset:
    """A file as it is sent; `tag` is the digest of its content."""

    name: str
    media_type: str
    content: bytes = field(repr=False)
    tag: str


@cache
def assets() -> Mapping[str, Asset]:
    """Every file of the page by its name: a fixed list, read once."""
    found: dict[str, Asset] = {}
    for file in files("mutant.serving").joinpath("web").iterdir():
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            content = file.read_bytes()
            found[file.name] = Asset(file.name, media_type, content, hashlib.sha256(content).hexdigest()[:32])
    return found
