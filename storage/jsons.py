"""One way to write JSON, so that equal values are equal text."""

import json
from typing import Any


def canonical(value: Any) -> str:
    """Sorted, compact JSON; refuses NaN and infinities with ValueError, because databases do.

    >>> canonical({"b": 1, "a": [None, 0.1]})
    '{"a":[null,0.1],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
