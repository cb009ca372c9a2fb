"""Who may ask, and how often: API keys of two scopes, and a bucket of requests for each of those who ask."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from mutant.serving.refusals import Refused
from mutant.storage.keys import Key, Scope, find

_MOST_BUCKETS = 10_000
_BURST_SECONDS = 2.0


class Gate:
    """Checks requests against the keys of now. `keys` are replaced as a whole.

    Without any, everybody may read if the server `is_open` to those who have none, else nobody.
    """

    def __init__(
        self, rate: float | None = None, clock: Callable[[], float] = time.monotonic, *, is_open: bool = True
    ) -> None:
        self.keys: tuple[Key, ...] = ()
        self._open = is_open
        self._rate, self._clock = rate, clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def enter(self, headers: Mapping[str, str], address: str) -> Key | None:
        """The key of a request with these headers, None without keys; raises Refused (401, 429)."""
        key = self.key(headers)
        self._spend(key.id if key is not None else address, self._rate if key is None or key.rate is None else key.rate)
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

    def _spend(self, who: str, rate: float | None) -> None:
        """Take one request from the bucket of `who`, which fills by `rate` a second and holds two seconds' worth."""
        if rate is None:
            return
        now, most = self._clock(), max(1.0, rate * _BURST_SECONDS)
        with self._lock:
            left, since = self._buckets.pop(who, (most, now))
            left = min(most, left + (now - since) * rate)
            self._buckets[who] = (left - 1 if left >= 1 else left, now)
            while len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        if left < 1:
            wait = max(1, math.ceil((1 - left) / rate))
            raise Refused(429, f"More than {rate:g} requests per second.", "Wait a little.", {"Retry-After": str(wait)})


def require(key: Key | None, scope: Scope) -> None:
    """Raise Refused (403) unless the key has the scope; without keys nobody is an admin."""
    if scope == "admin" and (key is None or key.scope != "admin"):
        raise Refused(403, "This needs a key of scope admin.", "Make one: mutant keys add NAME --scope admin")
