# SPDX-License-Identifier: Apache-2.0
"""The record of decisions and accounts: append-only, hash-chained, and readable with any SQLite (docs/ledger.md)."""

from embellie.ledger.compact import compact
from embellie.ledger.export import open_records, read_export, write_export
from embellie.ledger.pseudonyms import Pseudonyms
from embellie.ledger.records import ChangedRecordError, Draft, Entry, Kind, LedgerError, LedgerUnavailableError
from embellie.ledger.store import Ledger, LedgerReader
from embellie.ledger.verify import Verification, unchanged, verify

__all__ = [
    "ChangedRecordError",
    "Draft",
    "Entry",
    "Kind",
    "Ledger",
    "LedgerError",
    "LedgerReader",
    "LedgerUnavailableError",
    "Pseudonyms",
    "Verification",
    "compact",
    "open_records",
    "read_export",
    "unchanged",
    "verify",
    "write_export",
]
