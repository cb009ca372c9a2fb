"""Keys to the server. A key is shown once, when it is made; the database keeps a hash of its secret."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import delete, insert, select

from mutant.storage.checks import checked, checked_text
from mutant.storage.faults import decoding
from mutant.storage.records import now
from mutant.storage.refusals import Conflict
from mutant.storage.schema import KeyRow
from mutant.storage.store import Store
from mutant.tasks.errors import UserError, unknown

Scope = Literal["read", "admin"]
_KEY = re.compile(r"mutant_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Key:
    """A key as it is kept. `rate`: requests per second that it may make, None: the server's own limit.

    `secret` is the SHA-256 (hex) of 32 random bytes in base64: too many to guess, so that no slow hash is needed.
    """

    id: str
    name: str
    secret: str
    scope: Scope
    rate: float | None
    created_at: datetime


def make(store: Store, name: str, scope: Scope = "read", rate: float | None = None) -> str:
    """Make a key and keep its hash; the key itself, which is nowhere else. Raises Conflict when the name is taken."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise UserError(f"A key's name has 1 to 100 characters, got {name!r}.")
    if rate is not None and not 0 < rate < 1e9:
        raise UserError(f"A key's rate is above 0 requests per second, got {rate}.")
    id_, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    with store.writing() as connection:
        if connection.scalar(select(KeyRow.id).where(KeyRow.name == name)) is not None:
            raise Conflict(f"There is a key '{name}' already.", hint=f"Take it back first: mutant keys rm {name}")
        row = insert(KeyRow).values(id=id_, name=name, secret=_hash(secret), scope=scope, rate=rate, created_at=now())
        connection.execute(row)
    return f"mutant_{id_}_{secret}"


def take_back(store: Store, name: str) -> None:
    """Delete a key: a running server refuses it within seconds. Raises UserError with the nearest name."""
    with store.writing() as connection:
        if connection.execute(delete(KeyRow).where(KeyRow.name == name)).rowcount == 0:
            with decoding():
                names = [checked_text(known) for known in connection.scalars(select(KeyRow.name))]
            raise unknown("key", name, names, see="mutant keys list")


def load(store: Store) -> tuple[Key, ...]:
    """All keys, oldest first."""
    with store.reading() as connection, decoding():
        rows = connection.execute(select(KeyRow.__table__).order_by(KeyRow.created_at, KeyRow.id))
        return tuple(checked(Key(*row)) for row in rows)


def find(keys: tuple[Key, ...], text: str) -> Key | None:
    """The key that `text` is, in time that does not tell how much of its secret was right."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    by_id = {key.id: key for key in keys}
    key = by_id.get(match[1])
    same = hmac.compare_digest(_hash(match[2]), key.secret if key is not None else "0" * 64)
    return key if same else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
