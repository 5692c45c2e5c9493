"""Test which checkpoints are kept and restored, with damaged files too."""

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


def test_restores_bit_exact(tmp_path: Path) -> None:
    save(tmp_path, 5)
    assert assert_restores(tmp_path, 5) == []


def test_empty_directory(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.restore(make_state(0)) is None
        assert checkpoints.restore_best(make_state(0)) is None
        assert (checkpoints.latest_step, checkpoints.best_step) == (None, None)
        assert checkpoints.all_steps == []


def test_saved_and_restored_states_may_be_donated(tmp_path: Path) -> None:
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
def test_restores_to_the_devices_of_the_template(
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
        # Opened again for each step, so the metrics are read from disk.
        with Checkpoints(tmp_path, keep_last=2) as checkpoints:
            metrics = {"eval_accuracy": accuracies[step]} if step in accuracies else {}
            checkpoints.save(step, make_state(step), feed(step), metrics)
            assert checkpoints.all_steps == kept[step]
            assert checkpoints.best_step == best[step]
            assert checkpoints.latest_step == step
        assert sorted(os.listdir(tmp_path)) == [str(step) for step in kept[step]]


def test_restore_best_falls_back_to_the_next_best(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, accuracies={1: 0.8, 2: 0.9, 3: 0.7})
    warnings: list[str] = []
    with Checkpoints(tmp_path, warn=warnings.append) as checkpoints:
        restored = checkpoints.restore_best(make_state(0))
        assert restored is not None
        assert (restored.step, warnings) == (2, [])
        shutil.rmtree(tmp_path / "2" / "state")
        restored = checkpoints.restore_best(make_state(0))
        assert restored is not None
        assert restored.step == checkpoints.best_step == 1
        assert bits(restored.state) == bits(make_state(1))
        assert checkpoints.all_steps == [1, 3, 4]
    assert len(warnings) == 1


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def garble(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, empty, garble, flip_bit, Path.unlink])
def test_detects_damage_in_each_file(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    save(tmp_path / "intact", 1, 2)
    files = sorted(p.relative_to(tmp_path / "intact") for p in (tmp_path / "intact/2").rglob("*"))
    files = [file for file in files if (tmp_path / "intact" / file).is_file()]
    fell_back = set()
    for number, file in enumerate(files):
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "intact", directory)
        damage(directory / file)
        with Checkpoints(directory, warn=lambda _: None) as checkpoints:
            restored = checkpoints.restore(make_state(0))
        assert restored is not None
        # Damage of a file without any of the state, such as a commit marker, may be undetected.
        assert bits(restored.state) == bits(make_state(restored.step))
        assert restored.feed_state == feed(restored.step)
        if restored.step == 1:
            fell_back.add(re.sub(r"/[0-9a-f]{32}$", "", str(file)))
    assert {"2/record/metadata", "2/state/manifest.ocdbt", "2/state/d"} <= fell_back
    assert {"2/state/ocdbt.process_0/d"} <= fell_back
    if damage is not flip_bit:  # one bit of it may be irrelevant
        assert "2/state/_METADATA" in fell_back


def test_damaged_checkpoint_is_renamed_and_its_step_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for name in ["2.damaged", "2.damaged-2"]:
        truncate(tmp_path / "2" / "record" / "metadata")
        (warning,) = assert_restores(tmp_path, 1)
        assert "step 2" in warning
        assert str(tmp_path / "2") in warning
        assert "JSONDecodeError" in warning
        assert f"renamed to {name}," in warning
        assert (tmp_path / name / "state").is_dir()
        save(tmp_path, 2)
        assert assert_restores(tmp_path, 2) == []


def test_skips_several_damaged_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    shutil.rmtree(tmp_path / "3" / "state")
    (tmp_path / "2" / "record" / "metadata").unlink()
    first, second = assert_restores(tmp_path, 1)
    assert "step 3" in first
    assert "step 2" in second


def test_error_if_all_are_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for step in ["1", "2"]:
        empty(tmp_path / step / "record" / "metadata")
    for _ in range(2):
        with (
            Checkpoints(tmp_path) as checkpoints,
            pytest.raises(
                RuntimeError, match=r"(?s)all checkpoints.*step 2: .*step 1: .*start over"
            ),
        ):
            checkpoints.restore(make_state(0))
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_missing_permission_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_invalid_arguments_are_refused_before_writing(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(TypeError, match="not JSON serializable"):
            checkpoints.save(1, make_state(1), {"position": b"12"})
        with pytest.raises(TypeError, match=r"as leaf rate of the state, got 0\.1, a float"):
            checkpoints.save(1, {"rate": 0.1}, feed(1))
    with pytest.raises(ValueError, match="keep_last of at least 1, got 0"):
        Checkpoints(tmp_path, keep_last=0)
    assert os.listdir(tmp_path) == []


def test_add_metrics_after_saving(tmp_path: Path) -> None:
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
        restored = checkpoints.restore_best(make_state(0))
        assert restored is not None
        assert (restored.step, restored.metrics) == (2, {"eval_accuracy": 0.75})
