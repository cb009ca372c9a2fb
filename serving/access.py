"""Who may ask, and how often: API keys of two scopes, and a bucket of requests for each of those who ask.

Also by which name: a site may let its own name mean 127.0.0.1, and its pages in a browser of this machine would then
read what a server without keys answers.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

from mutant.serving.refusals import Refused
from mutant.storage.keys import Key, Scope, find

_MOST_BUCKETS = 10_000
_BURST_SECONDS = 2.0


class Gate:
    """Checks requests against the keys of now. `keys` are replaced as a whole.

    Without any, everybody may read if the server `is_open` to those who have none, else nobody; if it `is_local`,
    under a name of this machine only. `processes` that know nothing of each other answer for one server: each lets
    through its share of every rate.
    """

    def __init__(
        self,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_open: bool = True,
        is_local: bool = False,
        processes: int = 1,
    ) -> None:
        self.keys: tuple[Key, ...] = ()
        self._open, self._local = is_open, is_local
        self._rate, self._clock, self._processes = rate, clock, processes
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def enter(self, headers: Mapping[str, str], address: str) -> Key | None:
        """The key of a request with these headers, None without keys; raises Refused (401, 429)."""
        key = self.key(headers)
        who = _one_form(address) if key is None else key.id
        self._spend(who, self._rate if key is None or key.rate is None else key.rate)
        return key

    def key(self, headers: Mapping[str, str]) -> Key | None:
        """As `enter`, but the request is not counted."""
        scheme, _, text = headers.get("authorization", "").partition(" ")
        given = text.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not self.keys and self._open:
            return None
        key = find(self.keys, given)
        if key is None:
            why = "This needs an API key." if not given else "This API key is not known."
            hint = "Send it as 'Authorization: Bearer KEY'; it is made with: mutant keys add NAME"
            raise Refused(401, why, hint, {"WWW-Authenticate": "Bearer"})
        return key

    def check_hosts(self, hosts: Sequence[str]) -> None:
        """Raise Refused (403) when a Host header names another machine than this one, and there are no keys."""
        if not self._local or self.keys:
            return
        for host in hosts:
            if not is_this_machine(host):
                why = f"Without keys this server answers as localhost only, not as '{host[:100]}'."
                hint = "Ask localhost or 127.0.0.1. For another name: mutant keys add NAME, or --allow-anonymous"
                raise Refused(403, why, hint)

    def _spend(self, who: str, rate: float | None) -> None:
        """Take one request from the bucket of `who`, which fills by a share of `rate` a second and holds two seconds'
        worth."""
        if rate is None:
            return
        share = rate / self._processes
        now, most = self._clock(), max(1.0, share * _BURST_SECONDS)
        with self._lock:
            left, since = self._buckets.pop(who, (most, now))
            left = min(most, left + (now - since) * share)
            self._buckets[who] = (left - 1 if left >= 1 else left, now)
            while len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        if left < 1:
            wait = max(1, math.ceil((1 - left) / share))
            raise Refused(429, f"More than {rate:g} requests per second.", "Wait a little.", {"Retry-After": str(wait)})


def require(key: Key | None, scope: Scope) -> None:
    """Raise Refused (403) unless the key has the scope; without keys nobody is an admin."""
    if scope == "admin" and (key is None or key.scope != "admin"):
        raise Refused(403, "This needs a key of scope admin.", "Make one: mutant keys add NAME --scope admin")


def is_this_machine(host: str) -> bool:
    """Whether a Host header (RFC 9110, section 7.2), with or without a port, names localhost or a loopback address.

    >>> [is_this_machine(host) for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "site.example")]
    [True, True, True, False]
    """
    name, _, port = host.strip().lower().rpartition(":")
    if not name or not (port.isdecimal() or port == "") or (":" in name and not name.endswith("]")):
        name = host.strip().lower()  # there is no port
    if name == "localhost":
        return True
    address = _address(name.removeprefix("[").removesuffix("]"))
    return address is not None and address.is_loopback


def peer_address(peer: str) -> str:
    """The address of a peer as gRPC names it, as HTTP has it.

    >>> peer_address("ipv4:127.0.0.1:5000"), peer_address("ipv6:%5B::1%5D:5000"), peer_address("unix:")
    ('127.0.0.1', '::1', 'unix:')
    """
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


def _one_form(address: str) -> str:
    """An address in the one form of which there is a bucket."""
    found = _address(address)
    return address if found is None else str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address, None for what is none; one of version 4 as such, also where it came as one of version 6."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
