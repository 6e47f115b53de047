# SPDX-License-Identifier: Apache-2.0
"""People's names as pseudonyms: the same for one person, and nobody's without the key.

The key lies beside the ledger, never in it. Who deletes the key makes every pseudonym anonymous for good.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Self

from embellie.ledger.records import LedgerUnavailableError

_KEY_BYTES = 32


class Pseudonyms:
    """Turns names into pseudonyms with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def beside(cls, ledger: Path) -> Self:
        """Read the key beside a ledger, or make one; raises LedgerUnavailableError where neither is possible."""
        path = ledger.with_name(ledger.name + ".pseudonym-key")
        try:
            if not path.exists():
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(secrets.token_hex(_KEY_BYTES))
            key = bytes.fromhex(path.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise LedgerUnavailableError(f"the key of pseudonyms {path} cannot be read or made: {error}") from error
        if len(key) != _KEY_BYTES:
            raise LedgerUnavailableError(
                f"the key of pseudonyms {path} is cut short; restore it, or delete it for a new one"
            )
        return cls(key)

    def of(self, name: str) -> str:
        """Return a person's pseudonym."""
        return f"person-{hmac.new(self._key, name.encode('utf-8', 'replace'), hashlib.sha256).hexdigest()[:12]}"
