"""The command, with flags that end it before it compiles."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--topology is missing. "),
        (["--topology=v9:2x2"], "unknown chip"),
    ],
)
def test_a_wrong_topology_ends_the_command_with_one_line(command, flags, message):
    process = command(*flags, program=("-m", "train.plan"))
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert message in err
    assert "Traceback" not in err
