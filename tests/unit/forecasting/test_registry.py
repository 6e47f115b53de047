# SPDX-License-Identifier: Apache-2.0
"""The registry gives back what it was given, and refuses whatever else lies in its folder."""

import io
import pickle
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from embellie.cli.main import cli
from embellie_forecast import folders
from embellie_forecast.history import ZoneHistory, hour_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.models import Settings, Target, ZoneModel, issue, train_calendar, train_zone
from embellie_forecast.models.targets import Kernel, WeatherUse
from embellie_forecast.registry import Registry, RegistryError
from embellie_forecast.registry.card import history_hash
from embellie_forecast.registry.store import FORMAT, KEY_FILE
from embellie_forecast.shelf import Shelf

UNTIL = datetime(2021, 7, 1, tzinfo=UTC)
SMALL = Settings(kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=60, warm_up_days=20, refit_days=30)


@pytest.fixture(scope="module")
def history() -> ZoneHistory:
    end = hour_of(UNTIL) + 20 * 24
    return load_carried("US-PJM").since(hour_of(UNTIL) - 420 * 24).known_until(end, end)


@pytest.fixture(scope="module")
def model(history: ZoneHistory) -> ZoneModel:
    source = {"name": "EIA-930", "licence": "US public domain"}
    return train_zone(history, until=UNTIL, targets=(Target.LIFECYCLE,), settings=SMALL, data_sources=(source,))


@pytest.fixture
def stored(model: ZoneModel, tmp_path: Path) -> Path:
    return Registry(tmp_path).save(model)


def test_a_stored_model_issues_the_same_forecast(history: ZoneHistory, model: ZoneModel, tmp_path: Path) -> None:
    calendar = train_calendar(history, until=UNTIL)
    registry = Registry(tmp_path)
    registry.save(model, calendar)
    again = registry.load("US-PJM")
    one, two = (issue(m, history, at=UNTIL).targets[Target.LIFECYCLE].quantiles for m in (model, again))
    np.testing.assert_array_equal(one, two)
    kept = registry.load_calendar("US-PJM")
    assert calendar is not None
    assert kept is not None
    np.testing.assert_array_equal(kept.fits[Target.LIFECYCLE].blind, calendar.fits[Target.LIFECYCLE].blind)
    assert kept.until_hour == calendar.until_hour == hour_of(UNTIL)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0


def test_the_card_says_what_the_model_rests_on(model: ZoneModel, stored: Path) -> None:
    card = Registry(stored.parent).card("US-PJM")
    assert card["trained_on"]["until"] == "2021-07-01T00:00Z"
    assert card["trained_on"]["sources"] == [{"name": "EIA-930", "licence": "US public domain"}]
    assert len(card["trained_on"]["sha256"]) == 64
    assert "wx_wind" in card["looks_at"]
    scores = card["targets"]["lifecycle"]
    assert len(scores["error_by_day"]) == len(scores["coverage80_percent_by_day"]) == 4
    shown = CliRunner().invoke(cli, ["model", "card", "US-PJM", "--models", str(stored.parent)])
    assert shown.exit_code == 0, shown.output
    assert "US public domain" in shown.output
    assert model.model_id in shown.output


@pytest.mark.parametrize("what", ["lifecycle_g_per_kwh", "weather", "official_mw", "marginal_g_per_kwh"])
def test_the_cards_hash_is_of_all_that_the_model_learnt_from(what: str, history: ZoneHistory) -> None:
    before = replace(history, marginal_g_per_kwh=history.direct_g_per_kwh)
    changed = getattr(before, what).copy()
    changed[100] = 77.0
    assert history_hash(before) == history_hash(replace(before))
    assert history_hash(replace(before, **{what: changed})) != history_hash(before)


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def other_version(content: bytes) -> bytes:
    return content.replace(b" krr2 ", b" krr1 ", 1)


def other_format(content: bytes) -> bytes:
    return content.replace(f"MODEL {FORMAT} ".encode(), b"MODEL 99 ", 1)


class Trap:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def pickled(content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array([Trap()], dtype=object))
    return content.partition(b"\n")[0] + b"\n" + buffer.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flipped, "was changed, cut short"),
        (lambda c: c[: len(c) // 2], "was changed, cut short"),
        (lambda c: c[:20], "not a model file"),
        (lambda _: b"", "not a model file"),
        (other_version, "another version"),
        (other_format, "another version"),
        (pickled, "was changed, cut short"),
        (lambda _: pickle.dumps(Trap()), "not a model file"),
    ],
)
def test_a_damaged_file_is_refused_with_the_way_out(damage: Any, said: str, stored: Path) -> None:
    stored.write_bytes(damage(stored.read_bytes()))
    with pytest.raises(RegistryError, match=said) as refused:
        Registry(stored.parent).load("US-PJM")
    assert "embellie model train US-PJM" in str(refused.value)


def test_a_pickle_inside_a_sealed_file_is_not_loaded_either(stored: Path) -> None:
    registry = Registry(stored.parent)
    head, _, packed = pickled(stored.read_bytes()).partition(b"\n")
    sealed = b" ".join([*head.split(b" ")[:3], registry._seal(packed).encode()])
    stored.write_bytes(sealed + b"\n" + packed)
    with pytest.raises(RegistryError, match="cannot be used"):
        registry.load("US-PJM")


def test_a_model_of_another_installation_is_refused(model: ZoneModel, stored: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    Registry(elsewhere).save(model)
    (elsewhere / stored.name).write_bytes(stored.read_bytes())
    with pytest.raises(RegistryError, match="another installation"):
        Registry(elsewhere).load("US-PJM")


@pytest.mark.parametrize("left", [b"", b"short"])
def test_a_key_that_a_full_disk_has_cut_short_seals_nothing(left: bytes, model: ZoneModel, tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(left)
    Registry(tmp_path).save(model)
    assert len((tmp_path / KEY_FILE).read_bytes()) == 32
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0
    assert Registry(tmp_path).load("US-PJM").zone == "US-PJM"


@pytest.mark.parametrize("zone", ["", "../US-PJM", "a/b", ".hidden", "x" * 200])
def test_a_zone_name_cannot_leave_the_folder(zone: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no zone name"):
        Registry(tmp_path).load(zone)


def test_a_full_disk_keeps_the_old_model(model: ZoneModel, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Registry(stored.parent).save(replace(model, latency_hours=3))
    monkeypatch.undo()
    assert Registry(stored.parent).load("US-PJM").latency_hours == model.latency_hours
    assert not list(stored.parent.glob("*.tmp"))


def test_a_worse_model_does_not_replace_a_better_one(history: ZoneHistory, model: ZoneModel, stored: Path) -> None:
    registry = Registry(stored.parent)
    bank = model.banks[Target.LIFECYCLE]
    worse = replace(model, banks={Target.LIFECYCLE: replace(bank, kernel=bank.kernel + 0.5)})
    assert not registry.offer(worse, history, at=UNTIL)
    np.testing.assert_array_equal(registry.load("US-PJM").banks[Target.LIFECYCLE].kernel, bank.kernel)
    assert registry.offer(model, history, at=UNTIL)


def test_no_model_is_said_with_the_command_that_makes_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["model", "card", "US-PJM", "--models", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.rstrip().endswith("embellie model train US-PJM")


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("us-ciso", "did you mean US-CISO"),
        ("US-CIS0", "did you mean US-CISO"),
        ("west-1", "did you mean west-2?"),
        ("FR", "train one with: embellie model train FR --file"),
    ],
)
def test_of_a_misspelt_zone_the_near_names_are_told(zone: str, said: str, model: ZoneModel, tmp_path: Path) -> None:
    Registry(tmp_path).save(replace(model, zone="west-2"))
    assert said in CliRunner().invoke(cli, ["model", "card", zone, "--models", str(tmp_path)]).output


def test_a_name_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["model", "train", "a b", "--file", "absent.csv", "--models", str(tmp_path)])
    assert done.exit_code == 1
    assert "'a b' is no zone name" in done.output


def test_a_file_without_an_average_intensity_makes_no_model(tmp_path: Path) -> None:
    file = tmp_path / "XX.csv"
    hours = pd.date_range("2021-01-01", periods=33 * 24, freq="h", tz="UTC")
    wave = 400.0 + 100.0 * np.sin(2.0 * np.pi * np.arange(hours.size) / 24.0)
    pd.DataFrame({"timestamp_utc": hours, "ci_marginal_g_per_kwh": wave}).to_csv(file, index=False)
    done = CliRunner().invoke(cli, ["model", "train", "XX", "--file", str(file), "--models", str(tmp_path)])
    assert done.exit_code == 1
    assert "tells marginal only, and forecasts stand on ci_lifecycle_g_per_kwh" in done.output
    assert not list(tmp_path.glob("*.model"))


def test_training_says_what_of_the_file_was_doubted(tmp_path: Path) -> None:
    file = tmp_path / "XX.csv"
    hours = pd.date_range("2021-01-01", periods=33 * 24, freq="h", tz="UTC")
    kilograms = 0.4 + 0.1 * np.sin(2.0 * np.pi * np.arange(hours.size) / 24.0)
    pd.DataFrame({"timestamp_utc": hours, "ci_lifecycle_g_per_kwh": kilograms}).to_csv(file, index=False)
    done = CliRunner().invoke(cli, ["model", "train", "XX", "--file", str(file), "--models", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "is it in another unit?" in done.output


@pytest.mark.parametrize(("own", "inside"), [(None, "cache/models"), ("elsewhere", "elsewhere")])
def test_models_lie_in_the_cache_unless_a_folder_of_their_own_is_named(
    own: str | None, inside: str, model: ZoneModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBELLIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMBELLIE_MODELS", raising=False)
    if own is not None:
        monkeypatch.setenv("EMBELLIE_MODELS", str(tmp_path / own))
    Registry(tmp_path / inside).save(model)
    shown = CliRunner().invoke(cli, ["model", "card", "US-PJM"])
    assert shown.exit_code == 0, shown.output
    assert model.model_id in shown.output


def test_what_only_some_grids_have_is_kept_too(history: ZoneHistory, tmp_path: Path) -> None:
    told = replace(
        history,
        marginal_g_per_kwh=history.direct_g_per_kwh * 1.5,
        weather_ahead=np.repeat(history.weather[:, None, :], 3, axis=1),
    )
    model = train_zone(told, until=UNTIL, targets=(Target.MARGINAL,), settings=SMALL)
    Registry(tmp_path).save(model)
    again = Registry(tmp_path).load("US-PJM")
    assert (again.targets, again.weather) == ((Target.MARGINAL,), WeatherUse.LEADS)
    one, two = (issue(m, told, at=UNTIL).targets[Target.MARGINAL].quantiles for m in (model, again))
    np.testing.assert_array_equal(one, two)


def test_a_grid_whose_first_training_is_still_to_come_is_told_no_command_that_trains_it(tmp_path: Path) -> None:
    assert Shelf(tmp_path, None).why_no_model("US-PJM", UNTIL) == "its model is not trained yet"


def test_a_stored_model_that_cannot_be_used_is_said_to_be_there(stored: Path) -> None:
    stored.write_bytes(b"something else")
    assert "is not a model file" in Shelf(stored.parent, None).why_no_model("US-PJM", UNTIL)


def test_a_folder_of_models_that_cannot_be_looked_into_is_no_reason_not_to_train(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / ("x" * 300), None)
    assert shelf.model("US-PJM", UNTIL) is None
    assert "cannot be read" in shelf.why_no_model("US-PJM", UNTIL)
    assert shelf.needs_training("US-PJM", UNTIL)
