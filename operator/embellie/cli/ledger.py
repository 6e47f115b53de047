# SPDX-License-Identifier: Apache-2.0
"""`embellie ledger`: export the record, and check that nobody bent it."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from embellie.cli.values import NewFile, readable, written
from embellie.ledger import Kind, LedgerError, LedgerReader, Verification, read_export, verify, write_export

DEFAULT = "/var/lib/embellie/ledger/ledger.sqlite"
_SQLITE = b"SQLite format 3\0"


def ledger_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --ledger."""
    return click.option(
        "--ledger",
        envvar="EMBELLIE_LEDGER_PATH",
        default=DEFAULT,
        show_default=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="The ledger's file.",
    )(command)


@click.group(name="ledger")
def ledger_group() -> None:
    """The record of decisions and accounts."""


@ledger_group.command()
@click.option("--out", type=NewFile(), help="Write to this file instead.")
@ledger_option
def export(out: Path | None, ledger: Path) -> None:
    """Write the ledger as JSON lines, one record a line, in order."""
    with readable(LedgerError), LedgerReader(ledger) as reader:
        if out is None:
            write_export(reader.entries(), sys.stdout)
            return
        with written(out), out.open("w", encoding="utf-8") as file:
            count = write_export(reader.entries(), file)
        click.echo(f"{_count(count, 'record')} written to {out}; the head is {reader.head}")


@ledger_group.command(name="verify", short_help="Check that no record was changed.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--head", metavar="SEQ:HASH", help="A head that was kept elsewhere: finds a cut or rewritten end.")
@ledger_option
def verify_command(file: Path | None, head: str | None, ledger: Path) -> None:
    """Check every record of the ledger, or of FILE (an export, or a ledger); exits with 1 when something is wrong."""
    expected = _head(head)
    try:
        with readable(LedgerError):
            if file is not None and _is_database(file):
                ledger, file = file, None
            result = _verify_export(file, expected) if file is not None else _verify_ledger(ledger, expected)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from error
    for finding in result.findings:
        click.echo(f"WRONG: {finding.what}.")
    compacted = f", {result.compacted} more compacted into daily accounts" if result.compacted else ""
    click.echo(
        f"{_count(result.records, 'record')} in {_count(result.segments, 'segment')}{compacted}; "
        f"the head is {result.head_seq}:{result.head_hash}"
    )
    if expected is not None and result.sound and not result.compared:
        click.echo(f"Record {expected[0]} was compacted since, so that its hash cannot be compared: keep a newer head.")
    click.echo(_verdict(result, of_export=file is not None, expected=expected is not None))
    sys.exit(0 if result.sound else 1)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _verify_ledger(path: Path, expected: tuple[int, str] | None) -> Verification:
    with LedgerReader(path) as reader:
        damage = reader.integrity()
        if damage != "ok":
            raise LedgerError(f"{path} is damaged: {damage}; restore a backup")
        head = reader.head.seq, reader.head.hash
        return verify(reader.entries(), reader.entries(kinds=[Kind.DAILY]), head=head, known=expected)


def _verify_export(path: Path, expected: tuple[int, str] | None) -> Verification:
    # A changed byte may be no text any more; its record is named all the same, by its hash.
    opened = functools.partial(path.open, encoding="utf-8", errors="surrogateescape")
    with opened() as first, opened() as second:
        if not first.readline():
            raise LedgerError(f"{path} is empty: it is no export of a ledger")
        first.seek(0)
        daily = (entry for entry in read_export(first) if entry.kind == Kind.DAILY)
        return verify(read_export(second), daily, known=expected)


def _verdict(result: Verification, *, of_export: bool, expected: bool) -> str:
    if not result.sound:
        return "The ledger was changed: do not rely on it."
    if result.records == 0:
        return "It holds no records yet: there is nothing to check."
    if of_export and not expected:
        # The file of a ledger knows its own head; an export does not.
        return "The chain is whole. Whether its end was cut off can only be told with a head that was kept: --head."
    return "The chain is whole."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    seq, colon, name = text.partition(":")
    if not (colon and seq.isdigit() and len(name) == 64):
        raise click.BadParameter(f"{text!r} must be SEQ:HASH, as `ledger verify` prints it", param_hint="--head")
    return int(seq), name
