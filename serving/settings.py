"""How a server is run, as one frozen value."""

from dataclasses import dataclass, field

from mutant.serving.batching import Queueing
from mutant.tasks.errors import UserError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_DAY = 86_400.0
_LARGEST_AT_ONCE = 4


@dataclass(frozen=True)
class ServeSettings:
    """`deadline`: seconds within which a request is answered, unless it gives fewer. `most_bytes`: of a request's body.
    `body_seconds`: within which a body has come. `most_pixels`: of one image, before it is decoded. `most_images`: of
    one request. `rate`: requests per second of each key, or of each address without keys (None: no limit). `refresh`:
    seconds between looks at the database. `open_to_all`: serve beyond this machine though there are no keys.
    `grpc_port`: also serve gRPC there (None: not). `proxies`: addresses, with commas between, of reverse proxies that
    are believed when they name a client's address (None: nobody). `processes`: how many answer for this server, each
    its share of every rate.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    queueing: Queueing = field(default_factory=Queueing)
    deadline: float = 10.0
    most_bytes: int = 16 * 2**20
    body_seconds: float = 30.0
    most_pixels: int = 64_000_000
    most_images: int = 64
    rate: float | None = None
    refresh: float = 1.0
    open_to_all: bool = False
    grpc_port: int | None = None
    proxies: str | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        for option, value, most in (
            ("--deadline", self.deadline, _DAY),
            ("--refresh", self.refresh, _DAY),
            ("--rate", self.rate, 1e9),
        ):
            if value is not None and not 0 < value <= most:  # NaN neither
                raise UserError(f"{option} must be above 0 and at most {most:,.0f}, got {value}.")

    @property
    def most_pixels_in_all(self) -> int:
        """Of all encoded images of a request."""
        return _LARGEST_AT_ONCE * self.most_pixels

    @property
    def is_open(self) -> bool:
        """Whether it may answer everybody while there are no keys."""
        return self.open_to_all or self.host in LOOPBACK

    @property
    def is_local(self) -> bool:
        """Whether without keys it answers those alone who ask for this machine by its own name."""
        return not self.open_to_all and self.host in LOOPBACK

    def check(self, *, keys: bool) -> None:
        """Raise UserError when it would open the system to a network without keys."""
        if not keys and not self.is_open:
            raise UserError(
                f"'{self.host}' can be reached from other machines, and this system has no API keys.",
                hint="Make one: mutant keys add NAME. Or let everybody in: --allow-anonymous",
            )
