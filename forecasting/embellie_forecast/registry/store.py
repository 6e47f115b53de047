# SPDX-License-Identifier: Apache-2.0
"""The registry: one file per zone, sealed with this installation's key, replaced whole or not at all.

A file is one line, `EMBELLIE-MODEL <format> <version> <HMAC-SHA256>`, and an archive of plain arrays (never a pickle).
The key lies beside the models and is readable by its owner only, so a file from elsewhere is refused before it is read.
"""

import hashlib
import hmac
import json
import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from embellie_forecast.exchange import write_atomically
from embellie_forecast.folders import cache_folder, models_folder, replace_bytes
from embellie_forecast.history import ZoneHistory
from embellie_forecast.history_files import carried_zones
from embellie_forecast.models.calendar import CalendarModel
from embellie_forecast.models.upkeep import better_on_recent
from embellie_forecast.models.zone import MODEL_VERSION, ZoneModel
from embellie_forecast.near_names import near_names
from embellie_forecast.registry.card import card_of
from embellie_forecast.registry.packing import pack, unpack

FORMAT = 1
MAGIC = b"EMBELLIE-MODEL"
KEY_FILE = ".installation-key"
KEY_BYTES = 32
MAX_BYTES = 256 * 1024 * 1024
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RegistryError(ValueError):
    """A stored model cannot be used; the sentence says why, and how to mend it."""


class Registry:
    """Models of zones in a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or models_folder(cache_folder())

    def holds(self, zone: str) -> bool:
        """Tell whether a model of the zone is stored, usable or not; RegistryError where that cannot be known."""
        path = self.file_of(zone)
        try:
            return path.is_file()
        except OSError as error:
            raise RegistryError(f"{path} cannot be read: {error}") from error

    def save(self, model: ZoneModel, calendar: CalendarModel | None = None) -> Path:
        """Store a model and its card; return the file.

        Raises:
            OSError: The disk refuses it (full, read-only); what was stored before stays.
        """
        path = self.file_of(model.zone)
        self._folder.mkdir(parents=True, exist_ok=True)
        card = card_of(model)
        packed = pack(model, calendar, card)
        head = b" ".join([MAGIC, str(FORMAT).encode(), MODEL_VERSION.encode(), self._seal(packed).encode()])
        replace_bytes(path, head + b"\n" + packed)
        write_atomically(path.with_suffix(".card.json"), json.dumps(card, indent=2) + "\n")
        return path

    def offer(
        self, model: ZoneModel, history: ZoneHistory, *, at: datetime, calendar: CalendarModel | None = None
    ) -> bool:
        """Store a model if there is none that did better on recent days; tell whether it was stored."""
        try:
            stored = self.load(model.zone)
        except RegistryError:
            stored = None
        if stored is not None and not better_on_recent(model, stored, history, at=at):
            return False
        self.save(model, calendar)
        return True

    def load(self, zone: str) -> ZoneModel:
        """Return the stored model of a zone.

        Raises:
            RegistryError: There is none, or it cannot be trusted or read.
        """
        return self._read(zone)[0]

    def load_calendar(self, zone: str) -> CalendarModel | None:
        """Return the stored calendar model of a zone; RegistryError as in `load`."""
        return self._read(zone)[1]

    def card(self, zone: str) -> dict[str, Any]:
        """Return the card of a stored model; RegistryError as in `load`."""
        return self._read(zone)[2]

    def file_of(self, zone: str) -> Path:
        """Return where a zone's model lies, or would; RegistryError where its name cannot be a zone's."""
        if not _ZONE.fullmatch(zone):
            raise RegistryError(f"{zone!r} is no zone name; use letters, digits, dots and dashes")
        return self._folder / f"{zone}.model"

    def _read(self, zone: str) -> tuple[ZoneModel, CalendarModel | None, dict[str, Any]]:
        path = self.file_of(zone)
        again = f"; delete {path} and train again with: embellie model train {zone}"
        try:
            if path.stat().st_size > MAX_BYTES:
                raise RegistryError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB{again}")
            head, _, packed = path.read_bytes().partition(b"\n")
        except FileNotFoundError as error:
            raise RegistryError(f"no model of {zone} in {self._folder}; {self._way_on(zone)}") from error
        except OSError as error:
            raise RegistryError(f"{path} cannot be read: {error}") from error
        words = head.split(b" ")
        if len(words) != 4 or words[0] != MAGIC:
            raise RegistryError(f"{path.name} is not a model file{again}")
        if words[1] != str(FORMAT).encode() or words[2] != MODEL_VERSION.encode():
            raise RegistryError(f"{path.name} was written by another version of Embellie{again}")
        if not hmac.compare_digest(words[3], self._seal(packed).encode()):
            raise RegistryError(f"{path.name} was changed, cut short or written by another installation{again}")
        try:
            found = unpack(packed)
        except Exception as error:  # a sealed file that cannot be read is a bug or a broken disk: train again
            raise RegistryError(f"{path.name} cannot be used: {type(error).__name__}: {error}{again}") from error
        if found[0].zone != zone:
            raise RegistryError(f"{path.name} holds the model of {found[0].zone!r}{again}")
        return found

    def _way_on(self, zone: str) -> str:
        """Say how to come to a model where there is none."""
        carried = carried_zones()
        train = f"train one with: embellie model train {zone}" + ("" if zone in carried else " --file ITS_HISTORY")
        near = near_names(zone, (*carried, *(path.stem for path in self._folder.glob("*.model"))))
        return train if zone in near or not near else f"did you mean {' or '.join(near)}? Else {train}"

    def _seal(self, packed: bytes) -> str:
        return hmac.new(self._key(), packed, hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        """Return this installation's key; make one at the first use, and where a full disk has cut it short."""
        path = self._folder / KEY_FILE
        if not path.exists() or path.stat().st_size != KEY_BYTES:
            replace_bytes(path, secrets.token_bytes(KEY_BYTES))
        # As it lies there: another process may have made one at the same time.
        return path.read_bytes()
