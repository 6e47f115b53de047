# SPDX-License-Identifier: Apache-2.0
"""What verbs take: numbers that are some, and files to be written, refused before the work where they cannot be.

And how a verb ends where what it was given cannot be used.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number within bounds; `nan` keeps any bound in click's eyes, and `inf` an open one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number that can be reckoned with", param, ctx)
        return number


class NewFile(click.Path):
    """A file to be written. Its folder is looked at when the command line is read, not when the work is done."""

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True, allow_dash=allow_dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a missing or read-only folder is a usage error."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if self.allow_dash and str(path) == "-":
            return path
        if not path.parent.is_dir():
            self.fail(f"{path} cannot be written: there is no folder {path.parent}; create it first", param, ctx)
        if not path.exists() and not os.access(path.parent, os.W_OK):
            self.fail(f"{path} cannot be written: you may not write in {path.parent}", param, ctx)
        return path


@contextmanager
def readable(*errors: type[Exception]) -> Iterator[None]:
    """End a verb in a sentence, the error's own, where one of these comes from inside."""
    try:
        yield
    except BrokenPipeError:
        raise  # no file of theirs: whoever read the output has had enough
    except errors as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say which file could not be written, and why, where that fails inside."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror or error}") from error


def write(text: str, path: Path | None) -> None:
    """Write a text into a file, or to the terminal where there is none or it is called `-`."""
    if path is None or str(path) == "-":
        click.echo(text, nl=False)
        return
    with written(path):
        path.write_text(text, encoding="utf-8")


def write_json(document: object, path: Path | None) -> None:
    """Write a document into a file, where one is asked for."""
    if path is not None:
        write(json.dumps(document, indent=2) + "\n", path)
