"""Train a run for longer: which configs may extend it, and what is kept."""

import json

import pytest

from configs import digits
from train.reporting.config_file import RESUMABLE_FIELDS, read_config
from train.reporting.extension import EXTENDABLE_FIELDS, extend_workdir
from train.reporting.workdir import claim_workdir


@pytest.fixture
def workdir(tmp_path):
    claim_workdir(tmp_path, digits.get_config())
    (tmp_path / "summary.json").write_text("{}")
    return tmp_path


def test_fields_exist_and_are_listed_once():
    assert set(digits.get_config()) >= EXTENDABLE_FIELDS
    assert not EXTENDABLE_FIELDS & RESUMABLE_FIELDS


def test_the_new_config_replaces_the_old_one_which_is_kept(workdir):
    config = digits.get_config()
    assert extend_workdir(workdir, config, 1350, 1350) is False
    assert (workdir / "summary.json").exists()
    config.epochs, config.learning_rate, config.schedule = 90.0, 0.01, "constant"
    assert extend_workdir(workdir, config, 1350, 2025) is True
    assert read_config(workdir).epochs == 90.0
    assert json.loads((workdir / "config_until_1350.json").read_text())["epochs"] == 60.0
    assert (workdir / "summary_until_1350.json").read_text() == "{}"
    assert not (workdir / "summary.json").exists()
    # The same command resumes the extended run, with --extend and without.
    assert extend_workdir(workdir, config, 1400, 2025) is False
    assert claim_workdir(workdir, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 32},
            r"(?s)cannot be extended.*batch_size: 64 in the .*train\.save_model.*that version",
        ),
        ({"fusion": "add", "epochs": 90.0}, r"(?s)cannot be extended.*fusion: \"aff\" in"),
        ({"learning_rate": 0.01}, "expected more steps than the 1350 that .*epochs counts from"),
    ],
)
def test_other_changes_are_refused_and_nothing_is_written(workdir, change, message):
    config = digits.get_config()
    config.update(change)
    before = {path: path.read_bytes() for path in workdir.iterdir()}
    with pytest.raises(ValueError, match=message):
        extend_workdir(workdir, config, 1350, 1350)
    assert {path: path.read_bytes() for path in workdir.iterdir()} == before


def test_a_workdir_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected the --workdir of a run"):
        extend_workdir(tmp_path, digits.get_config(), 0, 10)


def test_the_refusal_of_another_config_names_the_flag(workdir):
    config = digits.get_config()
    config.epochs = 90.0
    with pytest.raises(ValueError, match=r"add --extend to `python -m train`"):
        claim_workdir(workdir, config)
