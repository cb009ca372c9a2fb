"""How a server is run, as one frozen value."""

from dataclasses import dataclass, field

from mutant.serving.batching import Queueing
from mutant.tasks.errors import UserError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class ServeSettings:
    """`deadline`: seconds within which a request is answered, unless it gives fewer. `most_bytes`: of a request's body.
    `most_pixels`: of one image, before it is decoded. `most_images`: of one request. `rate`: requests per second of
    each key, or of each address without keys (None: no limit). `refresh`: seconds between looks at the database.
    `open_to_all`: serve beyond this machine though there are no keys.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    queueing: Queueing = field(default_factory=Queueing)
    deadline: float = 10.0
    most_bytes: int = 16 * 2**20
    most_pixels: int = 64_000_000
    most_images: int = 64
    rate: float | None = None
    refresh: float = 1.0
    open_to_all: bool = False

    def check(self, *, keys: bool) -> None:
        """Raise UserError when it would open the system to a network without keys."""
        if not keys and not self.open_to_all and self.host not in LOOPBACK:
            raise UserError(
                f"'{self.host}' can be reached from other machines, and this system has no API keys.",
                hint="Make one: mutant keys add NAME. Or let everybody in: --allow-anonymous",
            )
