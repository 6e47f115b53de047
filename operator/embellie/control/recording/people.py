# SPDX-License-Identifier: Apache-2.0
"""People who must not be named: their names go as far as the writer's thread, which writes pseudonyms instead."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from embellie.ledger import Draft, LedgerUnavailableError, Pseudonyms

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hidden:
    """A person's name that must not be written. JSON cannot hold it, so that a record can never let it slip."""

    name: str


class People:
    """Gives people their pseudonyms; the key is read when the first is asked for, and without it nobody is named."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._pseudonyms: Pseudonyms | None = None

    def disguise(self, draft: Draft) -> Draft:
        """Return a record in which nobody stands who must not."""
        who = draft.body.get("overriddenBy")
        if not isinstance(who, Hidden):
            return draft
        return replace(draft, body={**draft.body, "overriddenBy": self._of(who.name)})

    def _of(self, name: str) -> str:
        try:
            self._pseudonyms = self._pseudonyms or Pseudonyms.beside(self._ledger)
        except LedgerUnavailableError as error:
            logger.error("somebody is recorded without a name: %s", error)  # noqa: TRY400 - a sentence, not a trace
            return "person"
        return self._pseudonyms.of(name)
