"""The flag `--rename`."""

import pytest

from aff_jax.cli.renames import parse_renames, rename_flag


def test_renames_have_no_final_dots():
    parsed = rename_flag().parse_args(["--rename=encoder.=", "--rename=fc.=head."])
    assert parse_renames(parsed) == {"encoder": "", "fc": "head"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder", "expected --rename OLD=NEW, got 'encoder'"),
        ("re:(=a", r"--rename 're:\(=a' is not a valid regular expression"),
    ],
)
def test_other_forms_are_refused(text, message):
    parsed = rename_flag().parse_args([f"--rename={text}"])
    with pytest.raises(ValueError, match=message):
        parse_renames(parsed)
