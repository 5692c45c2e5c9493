"""Reading and comparing the configs of runs."""

import json
from pathlib import Path

import pytest

from train.reporting.config_file import (
    CONFIG_FILE,
    differing_fields,
    flatten_fields,
    read_config,
)


def test_lists_of_the_file_are_tuples_of_the_config(tmp_path: Path) -> None:
    stored = {"epochs": 3.0, "decay_epochs": [1.0, 2.0]}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(stored))
    config = read_config(tmp_path)
    assert config.decay_epochs == (1.0, 2.0)
    assert not differing_fields(stored, config.to_dict())


def test_fields_that_differ_have_both_values() -> None:
    lines = differing_fields({"resize": "pad", "a": {"b": 1}}, {"a": {"b": 2}, "c": 0})
    assert lines == {
        "a.b": "  a.b: 1 in the workdir, 2 now",
        "c": "  c: (no such field) in the workdir, 0 now",
        "resize": '  resize: "pad" in the workdir, (no such field) now',
    }


def test_empty_dicts_are_values() -> None:
    assert flatten_fields({"a": {}, "b": {"c": {"d": 1}}}) == {"a": {}, "b.c.d": 1}


def test_missing_config_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the --workdir of a run.*config\.json"):
        read_config(tmp_path)
