# SPDX-License-Identifier: Apache-2.0
"""What verbs take: numbers that are some, and files and outputs that can be written, else a sentence."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from embellie.cli.main import cli
from embellie.cli.values import NewFile

WRITERS = {
    "backtest --json": ["grid.csv"],
    "forecast --json": ["US-CISO"],
    "forecast --png": ["US-CISO"],
    "replay --json": [],
    "replay --html": [],
    "replay oracle --json": [],
    "plan bench --json": [],
    "plan bench --certificate": [],
    "thermal fit --json": [],
    "thermal fit --plot": [],
    "thermal drill --json": ["--scenario", "all"],
    "report --out": ["--from", "2026-01-01", "--to", "2026-02-01"],
    "ledger export --out": [],
}
"""Each option that names a file to be written, and what else its verb cannot do without."""


@pytest.mark.parametrize(("verb", "more"), WRITERS.items(), ids=WRITERS)
def test_a_folder_that_is_not_there_is_told_before_any_work(verb: str, more: list[str], tmp_path: Path) -> None:
    *words, option = verb.split()
    done = CliRunner().invoke(cli, [*words, *more, option, str(tmp_path / "nowhere" / "out")])
    assert done.exit_code == 2
    assert f"there is no folder {tmp_path / 'nowhere'}; create it first" in done.output


def verbs(command: click.Command = cli, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Walk over all commands with the words that call them."""
    yield words, command
    for name in command.list_commands(click.Context(command)) if isinstance(command, click.Group) else ():
        verb = command.get_command(click.Context(command), name)
        assert verb is not None
        yield from verbs(verb, (*words, name))


def options(kind: type[click.ParamType]) -> set[str]:
    """Return all options of one type, each with the words of its verb."""
    return {
        " ".join((*words, option.opts[0]))
        for words, verb in verbs()
        for option in verb.params
        if isinstance(option.type, kind)
    }


def test_the_list_of_options_that_name_files_to_be_written_is_whole() -> None:
    assert options(NewFile) == set(WRITERS)


def test_no_help_tells_a_range_that_is_none() -> None:
    helps = {words: CliRunner().invoke(cli, [*words, "--help"]).output for words, _ in verbs()}
    assert [words for words, text in helps.items() if "None" in text] == []


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_refused_wherever_a_number_is_asked(number: str) -> None:
    asked = sorted(options(click.types.FloatParamType))
    assert len(asked) > 10
    for option in asked:
        done = CliRunner().invoke(cli, [*option.split(), number])
        assert (done.exit_code, "Invalid value for" in done.output) == (2, True), (option, done.output)


def test_a_seed_below_zero_is_refused_wherever_a_seed_is_asked() -> None:
    for verb in (["plan", "bench", "--seed"], ["thermal", "drill", "--scenario", "all", "--seed"]):
        done = CliRunner().invoke(cli, [*verb, "-1"])
        assert (done.exit_code, "is not in the range" in done.output) == (2, True), done.output


@pytest.mark.parametrize("option", ["--json", "--certificate"])
def test_a_full_disk_is_a_sentence(option: str) -> None:
    done = CliRunner().invoke(cli, ["plan", "bench", "--jobs", "1", "--budget", "0.05", option, "/dev/full"])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == "Error: /dev/full cannot be written: No space left on device"


def test_a_folder_that_may_not_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)
    done = CliRunner().invoke(cli, ["plan", "bench", "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 2
    assert f"you may not write in {tmp_path}" in done.output


@pytest.mark.parametrize(
    ("full", "said"), [(True, "Error: the output could not be written: No space left on device\n"), (False, "")]
)
def test_an_output_that_takes_nothing_more_ends_without_a_traceback(full: bool, said: str) -> None:
    reader, output = os.pipe()
    os.close(reader)
    if full:
        os.dup2(os.open("/dev/full", os.O_WRONLY), output)
    command = [sys.executable, "-c", "from embellie.cli.main import main; main()", "version"]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    os.close(output)
    assert (done.returncode, done.stderr) == (1, said)


def test_an_output_that_has_no_such_letter_gets_a_question_mark() -> None:
    odd = "cli.add_command(click.Command('odd', callback=lambda: click.echo('a█b')))"
    command = [sys.executable, "-c", f"import click; from embellie.cli.main import cli, main; {odd}; main()", "odd"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"a?b\n"), done.stderr
