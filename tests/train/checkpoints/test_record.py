"""Test records with other trees, changed text, and several processes."""

import json
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from aff_jax.differences import DifferentArraysError
from train.checkpoints.manager import Checkpoints
from train.checkpoints.record import (
    DamagedError,
    check_same_leaves,
    check_same_values,
    local_feed_state,
    make_record,
    named_leaves,
    place_like,
    read_record,
)


class Momentum(NamedTuple):
    trace: Any


def tree() -> dict[str, Any]:
    return {
        "params": {"stem": {"kernel": np.ones((3, 4), np.float32), "bias": np.zeros(4)}},
        "opt_state": (Momentum({"kernel": np.ones(2, ml_dtypes.bfloat16)}), None, {}),
    }


def store(directory: Path, record: dict[str, Any] | str) -> Path:
    path = directory / "record" / "metadata"
    path.parent.mkdir(exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return directory


def test_leaves_are_named_by_their_path() -> None:
    assert [*named_leaves(tree())] == [
        "opt_state/0/trace/kernel",
        "params/stem/bias",
        "params/stem/kernel",
    ]
    with pytest.raises(TypeError, match=r"as leaf a/1 of the state, got 0\.1, a float"):
        named_leaves({"a": [np.zeros(1), 0.1]})


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = make_record(12, named_leaves(tree()), {"next_index": 3}, {"loss": np.float32(0.5)})
    read = read_record(store(tmp_path, record))
    assert read["step"] == 12
    assert read["metrics"] == {"loss": 0.5}
    assert read["feed_states"] == [{"next_index": 3}]
    two_ones = b"\x80\x3f\x80\x3f"  # bfloat16 is the upper half of a float32, here 0x3f800000
    leaf = {"shape": [2], "dtype": "bfloat16", "crc32": zlib.crc32(two_ones)}
    assert read["leaves"]["opt_state/0/trace/kernel"] == leaf
    assert local_feed_state(read) == {"next_index": 3}


@pytest.mark.parametrize(
    ("before", "after"), [("12", "13"), ("0.5", "0.6"), ("[3, 4]", "[4, 3]"), ("{", ""), ("}", "")]
)
def test_changed_record_is_damaged(tmp_path: Path, before: str, after: str) -> None:
    text = json.dumps(make_record(12, named_leaves(tree()), {}, {"loss": 0.5}))
    assert before in text
    store(tmp_path, text.replace(before, after, 1))
    with pytest.raises(DamagedError, match=r"JSONDecodeError|differs from what was written"):
        read_record(tmp_path)


def test_feed_state_must_be_json() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        make_record(1, {}, {"position": b"12"}, {})


def test_changed_arrays_are_damaged() -> None:
    leaves = named_leaves(tree())
    record = make_record(1, leaves, {}, {})
    check_same_values(record, leaves)
    for name, leaf in leaves.items():
        for wrong in (leaf + 1, leaf.reshape(1, -1), leaf.view(np.uint8), -leaf):
            changed = leaves | {name: wrong}
            if wrong.tobytes() == leaf.tobytes() and wrong.shape == leaf.shape:
                continue
            with pytest.raises(DamagedError, match=name):
                check_same_values(record, changed)
    with pytest.raises(DamagedError, match="params/stem/bias"):
        check_same_values(record, {name: leaves[name] for name in leaves if "bias" not in name})


def test_another_model_is_refused_with_all_differences() -> None:
    record = make_record(1, named_leaves(tree()), {}, {})
    check_same_leaves(Path("1"), record, tree())
    other = tree()
    other["params"]["stem"]["kernel"] = np.ones((3, 5), np.float32)
    other["params"]["head"] = {"kernel": np.ones(4, np.float32)}
    other["opt_state"][0].trace["kernel"] = np.ones(2, np.float16)
    del other["params"]["stem"]["bias"]
    with pytest.raises(DifferentArraysError, match="has other arrays") as error:
        check_same_leaves(Path("1"), record, other)
    assert error.value.differences == [
        "  missing     params/head/kernel (4,) float32",
        "  unexpected  params/stem/bias (4,) float64",
        "  wrong dtype opt_state/0/trace/kernel: (2,) bfloat16, expected (2,) float16",
        "  misshapen   params/stem/kernel: (3, 4) float32, expected (3, 5) float32",
    ]


def test_arrays_are_placed_on_the_devices_of_the_template() -> None:
    array = np.arange(4.0, dtype=np.float32)
    assert place_like(array, np.zeros(4)) is array
    free, pinned = jnp.zeros(4), jax.device_put(jnp.zeros(4), jax.devices()[-1])
    for like in (free, pinned):
        placed = place_like(array, like)
        assert placed.sharding == like.sharding
        assert placed.committed == like.committed
        np.testing.assert_array_equal(placed, [0, 1, 2, 3])
    assert (free.committed, pinned.committed) == (False, True)


def test_feed_states_of_another_number_of_processes() -> None:
    same = make_record(1, {}, {"next_index": 3}, {}) | {"feed_states": [{"next_index": 3}] * 4}
    assert local_feed_state(same) == {"next_index": 3}
    with pytest.raises(ValueError, match=r"step 1 was written by 2 processes .* this run has 1"):
        local_feed_state(same | {"feed_states": [{"next_index": 3}, {"next_index": 4}]})


TWO_PROCESSES = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
import jax, numpy as np
from train.checkpoints.manager import Checkpoints
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
me, directory = jax.process_index(), Path(sys.argv[1])
state = jax.device_put({{"a": np.ones(3, np.float32)}}, jax.local_devices()[0])
with Checkpoints(directory, warn=print) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, state, {{"shard": me, "words": ["x"] * me * 9}})
    restored = checkpoints.restore(state)
    assert restored.step == 2 and restored.feed_state == {{"shard": me, "words": ["x"] * me * 9}}
    if me == 0:
        (directory / "2" / "state" / "manifest.ocdbt").unlink()
    restored = checkpoints.restore(state)
    assert restored.step == 1 and restored.feed_state["shard"] == me
    assert np.asarray(restored.state["a"]).tolist() == [1, 1, 1]
    checkpoints.save(2, state, {{"shard": me}})
    assert checkpoints.all_steps == [1, 2]
"""


@pytest.mark.slow
def test_two_processes_restore_their_feed_states(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(tmp_path), address, str(me)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in (0, 1)
    ]
    for process in processes:
        with process:
            out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert "step 2" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "2.damaged"]
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(ValueError, match="written by 2 processes"),
    ):
        checkpoints.restore({"a": jnp.zeros(3)})
