# SPDX-License-Identifier: Apache-2.0
"""The command line: its flags, its refusals, and what it prints."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from embellie import __version__
from embellie.cli.main import cli
from embellie.cli.operator import run as operator_run
from embellie.cli.plan import _print_table
from embellie.cli.session import parse_target
from embellie.control.options import Options


@pytest.mark.parametrize(("text", "kind"), [("job/x", "Job"), ("Jobs/x", "Job"), ("po/x", "Pod"), ("pod/x", "Pod")])
def test_a_target_is_written_as_for_kubectl(text: str, kind: str) -> None:
    assert parse_target(text) == (kind, "x")


@pytest.mark.parametrize("text", ["x", "deploy/x", "job/", "/x", "job/a/b"])
def test_any_other_target_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be job/NAME or pod/NAME; of other kinds ask about the Jobs"):
        parse_target(text)


def test_the_version_is_printed_and_help_names_every_verb() -> None:
    for asked in ("version", "--version"):
        assert CliRunner().invoke(cli, [asked]).output == f"embellie {__version__}\n"
    text = CliRunner().invoke(cli, ["--help"]).output
    assert all(verb in text for verb in ("why", "plan", "go", "release", "operator", "version"))


def groups(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        yield path
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from groups(command.get_command(context, name) or cli, *path, name)


@pytest.mark.parametrize("path", list(groups(cli)), ids=" ".join)
def test_no_verb_is_told_in_half_a_sentence_on_a_usual_terminal(path: tuple[str, ...]) -> None:
    said = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).output
    _, _, verbs = said.partition("Commands:")
    assert verbs
    assert "..." not in verbs


def test_every_option_of_the_operator_is_a_flag_with_its_default() -> None:
    options = Options()
    flags = {p.name: p for p in operator_run.params}
    assert set(flags) == {f.name for f in fields(Options)}
    for name, flag in flags.items():
        context = click.Context(operator_run)
        assert flag.type_cast_value(context, flag.get_default(context, call=True)) == getattr(options, name)


def test_the_environment_sets_the_operators_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBELLIE_MAX_LIMIT_HOLD_SECONDS", "60")
    monkeypatch.setenv("EMBELLIE_FORECAST_DIR", "/forecasts")
    found = operator_run.make_context("run", []).params
    assert (found["max_limit_hold_seconds"], found["forecast_dir"]) == (60.0, Path("/forecasts"))


def test_a_narrow_terminal_cuts_no_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _print_table(["NAMESPACE/NAME", "REASON"], [["research/a-long-name-17", "CleanerWindow"]])
    assert "research/a-long-name-17   CleanerWindow" in capsys.readouterr().out


def test_the_tenants_are_not_printed_as_a_table_where_json_was_asked_for() -> None:
    refused = CliRunner().invoke(cli, ["plan", "--tenants", "-o", "json"])
    assert (refused.exit_code, "leave -o out" in refused.output) == (2, True)


def test_release_without_all_does_nothing_and_says_so() -> None:
    result = CliRunner().invoke(cli, ["release"])
    assert result.exit_code == 2
    assert "--all" in result.output


@pytest.mark.parametrize("forbidden", ["jobs", "pods"])
def test_release_all_refuses_at_once_who_may_not_release(forbidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def list(self, _path: str, **_selector: str) -> list[Any]:
            return []

        def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            assert path.endswith("/selfsubjectaccessreviews"), "nothing else is written"
            return {"status": {"allowed": body["spec"]["resourceAttributes"]["resource"] != forbidden}}

    monkeypatch.setattr("embellie.cli.session.connect", lambda *_: Api())
    result = CliRunner().invoke(cli, ["release", "--all"])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: you may not patch {forbidden} in all namespaces")


def test_a_missing_kubeconfig_is_a_sentence_and_no_traceback() -> None:
    result = CliRunner().invoke(cli, ["--kubeconfig", "/nowhere/at-all", "why", "job/x"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: no access to a cluster")


@pytest.mark.parametrize("text", [b"not: [yaml", b"[]", b"a word", b"\xb0\x00\xff", b"contexts: 1\nclusters: 2\n"])
def test_a_file_that_is_no_kubeconfig_is_a_sentence_and_no_traceback(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "config"
    file.write_bytes(text)
    for verb in (["why", "job/x"], ["plan"], ["go", "job/x"]):
        result = CliRunner().invoke(cli, ["--kubeconfig", str(file), *verb])
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert "no access to a cluster" in result.stderr
        assert "--kubeconfig" in result.stderr
