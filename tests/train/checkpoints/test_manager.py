"""Checkpoints against kills, full disks and damaged files, all of them real."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.train.checkpoints.checkpoint_states import assert_restores, bits, feed, make_state, save
from train.checkpoints.manager import Checkpoints


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, 5)
    assert assert_restores(tmp_path, 5) == []


def test_an_empty_directory_has_nothing_to_restore(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.restore(make_state(0)) is None
        assert checkpoints.best(make_state(0)) is None
        assert (checkpoints.latest_step, checkpoints.best_step) == (None, None)
        assert checkpoints.all_steps == []
        checkpoints.wait()


def test_a_saved_state_may_be_donated_and_a_restored_one_too(tmp_path: Path) -> None:
    negate = jax.jit(lambda state: jax.tree.map(lambda x: -x, state), donate_argnums=0)
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, feed(1))
        state = negate(state)
        restored = checkpoints.restore(state)
        assert restored is not None
        assert bits(negate(restored.state)) == bits(state)
    assert_restores(tmp_path, 1)


@pytest.mark.parametrize("saved_on", ["one", "all"])
@pytest.mark.parametrize("restored_on", ["free", "one", "all"])
def test_restores_onto_the_devices_of_the_template(
    tmp_path: Path, saved_on: str, restored_on: str
) -> None:
    replicated = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec())
    targets = {"one": jax.devices()[-1], "all": replicated}
    template = make_state(0)
    if restored_on != "free":
        template = jax.device_put(template, targets[restored_on])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, jax.device_put(make_state(7), targets[saved_on]), feed(7))
        restored = checkpoints.restore(template)
    assert restored is not None
    assert bits(restored.state) == bits(make_state(7))
    for leaf, like in zip(jax.tree.leaves(restored.state), jax.tree.leaves(template), strict=True):
        assert leaf.sharding == like.sharding
        assert leaf.committed == like.committed


def test_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    accuracies = {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.6, 6: float("nan"), 7: 0.9}
    kept = {1: [1], 2: [1, 2], 3: [2, 3], 4: [2, 3, 4], 5: [2, 4, 5], 6: [2, 5, 6], 7: [6, 7]}
    best = {1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 7}
    for step in range(1, 8):
        # A new process each time, so that what is best has to be read back from disk.
        with Checkpoints(tmp_path, keep_last=2) as checkpoints:
            metrics = {"eval_accuracy": accuracies[step]} if step in accuracies else {}
            checkpoints.save(step, make_state(step), feed(step), metrics)
            assert checkpoints.all_steps == kept[step]
            assert checkpoints.best_step == best[step]
            assert checkpoints.latest_step == step
        assert sorted(os.listdir(tmp_path)) == [str(step) for step in kept[step]]


def test_best_is_restored_and_falls_back_to_the_next_best(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, accuracies={1: 0.8, 2: 0.9, 3: 0.7})
    said: list[str] = []
    with Checkpoints(tmp_path, warn=said.append) as checkpoints:
        restored = checkpoints.best(make_state(0))
        assert restored is not None
        assert (restored.step, said) == (2, [])
        shutil.rmtree(tmp_path / "2" / "state")
        restored = checkpoints.best(make_state(0))
        assert restored is not None
        assert restored.step == checkpoints.best_step == 1
        assert bits(restored.state) == bits(make_state(1))
        assert checkpoints.all_steps == [1, 3, 4]
    assert len(said) == 1


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def garble(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, empty, garble, flip, Path.unlink])
def test_whatever_happens_to_a_file_is_noticed(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save(tmp_path / "whole", 1, 2)
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole/2").rglob("*"))
    files = [file for file in files if (tmp_path / "whole" / file).is_file()]
    fell_back = set()
    for number, file in enumerate(files):
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", directory)
        damage(directory / file)
        with Checkpoints(directory, warn=lambda _: None) as checkpoints:
            restored = checkpoints.restore(make_state(0))
        assert restored is not None
        # Of a file that says nothing of the state (commit marks), the damage may go unnoticed.
        assert bits(restored.state) == bits(make_state(restored.step))
        assert restored.feed_state == feed(restored.step)
        if restored.step == 1:
            fell_back.add(re.sub(r"/[0-9a-f]{32}$", "", str(file)))
    assert {"2/record/metadata", "2/state/manifest.ocdbt", "2/state/d"} <= fell_back
    assert {"2/state/ocdbt.process_0/d"} <= fell_back
    if damage is not flip:  # what a flipped bit changes there may be of no consequence
        assert "2/state/_METADATA" in fell_back


def test_a_damaged_checkpoint_is_set_aside_and_its_step_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for name in ["2.damaged", "2.damaged-2"]:
        cut(tmp_path / "2" / "record" / "metadata")
        (said,) = assert_restores(tmp_path, 1)
        assert "step 2" in said
        assert str(tmp_path / "2") in said
        assert "JSONDecodeError" in said
        assert f"now called {name}," in said
        assert (tmp_path / name / "state").is_dir()
        save(tmp_path, 2)
        assert assert_restores(tmp_path, 2) == []


def test_several_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    shutil.rmtree(tmp_path / "3" / "state")
    (tmp_path / "2" / "record" / "metadata").unlink()
    first, second = assert_restores(tmp_path, 1)
    assert "step 3" in first
    assert "step 2" in second


def test_all_damaged_is_an_error_and_stays_one(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for step in ["1", "2"]:
        empty(tmp_path / step / "record" / "metadata")
    for _ in range(2):
        with (
            Checkpoints(tmp_path) as checkpoints,
            pytest.raises(RuntimeError, match=r"(?s)no checkpoint.*step 2: .*step 1: .*start over"),
        ):
            checkpoints.restore(make_state(0))
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_a_file_that_may_not_be_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, 2)

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(Path, "read_text", refuse)
        with pytest.raises(PermissionError):
            checkpoints.restore(make_state(0))
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_steps_only_go_up(tmp_path: Path) -> None:
    save(tmp_path, 3)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (3, 2):
            with pytest.raises(ValueError, match=f"cannot save step {step} .* of step 3"):
                checkpoints.save(step, make_state(step), feed(step))


def test_refuses_what_cannot_be_saved_before_writing(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(TypeError, match="not JSON serializable"):
            checkpoints.save(1, make_state(1), {"position": b"12"})
        with pytest.raises(TypeError, match=r"leaf rate of the state is 0\.1, a float"):
            checkpoints.save(1, {"rate": 0.1}, feed(1))
    with pytest.raises(ValueError, match="keep_last is 0"):
        Checkpoints(tmp_path, keep_last=0)
    assert os.listdir(tmp_path) == []


def test_what_an_evaluation_found_later_is_added(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, accuracies={1: 0.5})
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(make_state(0))
        assert restored is not None
        assert restored.metrics == {}
        assert checkpoints.best_step == 1
        checkpoints.add_metrics(2, {"eval_accuracy": 0.75})
        assert checkpoints.best_step == 2
    assert_restores(tmp_path, 2)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.best(make_state(0))
        assert restored is not None
        assert (restored.step, restored.metrics) == (2, {"eval_accuracy": 0.75})
