"""Configs of earlier versions, and the comparison of configs."""

import json
from pathlib import Path

import pytest

from configs import base
from train.reporting.config_file import (
    ADDED_FIELDS,
    CONFIG_FILE,
    config_as_dict,
    differing_fields,
    flatten_fields,
    read_config,
)


def test_added_fields_are_fields_of_the_config_with_their_default() -> None:
    config = base.get_config().to_dict()
    assert {name: config[name] for name in ADDED_FIELDS} == ADDED_FIELDS


def test_config_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    stored = {"epochs": 3.0, "decay_epochs": [1.0, 2.0]}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(stored))
    config = read_config(tmp_path)
    assert config.decay_epochs == (1.0, 2.0)
    assert config.resize == "crop"
    assert not differing_fields(stored, config_as_dict(config) | {"decay_epochs": [1.0, 2.0]})


def test_fields_that_differ_have_both_values() -> None:
    lines = differing_fields({"resize": "pad", "a": {"b": 1}}, {"a": {"b": 2}, "c": 0})
    assert lines == {
        "a.b": "  a.b: 1 in the workdir, 2 now",
        "c": "  c: (no such field) in the workdir, 0 now",
        "resize": '  resize: "pad" in the workdir, "crop" now',
    }


def test_empty_dicts_are_values() -> None:
    assert flatten_fields({"a": {}, "b": {"c": {"d": 1}}}) == {"a": {}, "b.c.d": 1}


def test_missing_config_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the --workdir of a run.*config\.json"):
        read_config(tmp_path)
