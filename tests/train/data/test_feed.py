"""The feeds: which process gets which example, in what order, and how a feed resumes."""

import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from train.data import feed
from train.data.batch import NumpyBatch
from train.data.sources.load import Source, load_source


class Numbers:
    """A source whose example i has pixels of value i and the label i modulo 7."""

    image_shape = (2, 3, 1)
    label_shape = ()

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Any]:
        return {
            "image": np.full(self.image_shape, position, np.uint8),
            "label": np.int32(position % 7),
            "index": np.int64(position),
        }


def train_feed(length: int, **arguments: Any) -> feed.TrainFeed:
    """Make a feed that does not read ahead, which is faster here."""
    source: Any = Numbers(length)
    return feed.TrainFeed(source, **{"batch_size": 8, "seed": 0, "threads": 0, **arguments})


def eval_feed(length: int, **arguments: Any) -> feed.TrainFeed:
    source: Any = Numbers(length)
    return feed.eval_feed(source, **arguments)


def indices(batches: Iterator[NumpyBatch], count: int) -> list[list[int]]:
    return [batch["index"].tolist() for batch in itertools.islice(batches, count)]


@pytest.mark.parametrize("length", [1, 5, 8, 37])
@pytest.mark.parametrize("batch_size", [1, 8, 12])
def test_every_epoch_is_a_permutation(length: int, batch_size: int) -> None:
    epochs = 6
    batches = indices(train_feed(length, batch_size=batch_size), epochs * length // batch_size + 1)
    stream = list(itertools.chain(*batches))
    for epoch in range(epochs):
        order = stream[epoch * length : (epoch + 1) * length]
        assert sorted(order) == list(range(length))


def test_epochs_and_seeds_have_different_orders() -> None:
    # With Grain's own seeds, the first epoch of seed 1 would be the second epoch of seed 0.
    orders = {
        tuple(order)
        for seed in range(6)
        for order in indices(train_feed(37, batch_size=37, seed=seed), 6)
    }
    assert len(orders) == 36


def test_order_is_pinned() -> None:
    # A checkpoint stores a position in this order. If a new version of Grain changes it, a resumed
    # run continues with the wrong examples.
    assert indices(train_feed(37), 1) == [[18, 35, 16, 7, 20, 13, 24, 0]]


def test_batches_contain_complete_examples() -> None:
    for batch in itertools.islice(train_feed(37), 10):
        assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
            "image": (np.uint8, (8, 2, 3, 1)),
            "label": (np.int32, (8,)),
            "index": (np.int64, (8,)),
        }
        np.testing.assert_array_equal(batch["label"], batch["index"] % 7)
        np.testing.assert_array_equal(
            batch["image"], np.broadcast_to(batch["index"][:, None, None, None], (8, 2, 3, 1))
        )


@pytest.mark.parametrize("process_count", [2, 4, 8])
def test_processes_share_the_same_global_batches(process_count: int) -> None:
    whole = indices(train_feed(37), 15)
    blocks = [
        indices(train_feed(37, process_index=index, process_count=process_count), 15)
        for index in range(process_count)
    ]
    assert [list(itertools.chain(*batch)) for batch in zip(*blocks, strict=True)] == whole


@pytest.mark.parametrize(("threads", "read_ahead"), [(1, 1), (2, 4), (8, 50)])
def test_reading_ahead_changes_nothing(
    threads: int, read_ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_READ_AHEAD", read_ahead)
    assert indices(train_feed(37, threads=threads), 20) == indices(train_feed(37), 20)


@pytest.mark.parametrize("taken", [0, 1, 4, 5, 23])
def test_state_resumes_with_the_next_batch(taken: int) -> None:
    first = train_feed(37)
    before = indices(first, taken)
    state = json.loads(json.dumps(first.get_state()))
    assert state == {"next_index": taken}

    # This feed was used before, and the batches that it read ahead must be discarded.
    restored = train_feed(37, threads=2)
    indices(restored, 3)
    restored.set_state(state)
    assert restored.get_state() == state
    after = indices(restored, 10)
    assert after == indices(first, 10)
    assert before + after == indices(train_feed(37), taken + 10)


def test_state_is_valid_for_another_number_of_processes() -> None:
    one = train_feed(37)
    indices(one, 6)
    pair = [train_feed(37, process_index=index, process_count=2) for index in (0, 1)]
    for half in pair:
        half.set_state(one.get_state())
    assert indices(pair[0], 1)[0] + indices(pair[1], 1)[0] == indices(one, 1)[0]


@pytest.fixture(scope="module")
def large_digits(digits_dir: pathlib.Path) -> Source:
    """60 digits whose random crops are resized to 12 x 12 pixels."""
    return load_source("digits", "train[:60]", data_dir=digits_dir, image_size=(12, 12))


def images(batches: Iterator[NumpyBatch], count: int) -> np.ndarray:
    return np.stack([batch["image"] for batch in itertools.islice(batches, count)])


def test_random_crops_differ_between_epochs_and_not_between_runs(
    large_digits: Source,
) -> None:
    settings = {"batch_size": 20, "seed": 3, "random_crop": True}  # three batches per epoch
    first = images(feed.TrainFeed(large_digits, **settings), 6)
    np.testing.assert_array_equal(images(feed.TrainFeed(large_digits, **settings), 6), first)
    other = feed.TrainFeed(large_digits, **settings | {"seed": 4})
    assert (images(other, 6) != first).any()
    order = [b["index"] for b in itertools.islice(feed.TrainFeed(large_digits, **settings), 6)]
    by_position = [
        dict(zip(np.concatenate(order[e : e + 3]), np.concatenate(first[e : e + 3]), strict=True))
        for e in (0, 3)
    ]
    changed = [(by_position[0][i] != by_position[1][i]).any() for i in range(60)]
    assert np.mean(changed) > 0.95


@pytest.mark.slow
def test_worker_processes_resume_and_change_nothing(large_digits: Source) -> None:
    settings = {"batch_size": 8, "seed": 3, "random_crop": True}
    expected = images(feed.TrainFeed(large_digits, **settings, threads=1), 9)
    by_threads = feed.TrainFeed(large_digits, **settings, threads=2)
    np.testing.assert_array_equal(images(by_threads, 3), expected[:3])
    # A run may resume with another number of workers.
    by_workers = feed.TrainFeed(large_digits, **settings, workers=2)
    by_workers.set_state(by_threads.get_state())
    np.testing.assert_array_equal(images(by_workers, 5), expected[3:8])
    state = by_workers.get_state()
    assert state == {"next_index": 8}
    by_workers.close()
    by_threads.set_state(state)
    np.testing.assert_array_equal(images(by_threads, 1), expected[8:])


def test_random_crops_need_a_size(digits_train: Source) -> None:
    with pytest.raises(ValueError, match="image_size for random crops of digits train, got none"):
        next(feed.TrainFeed(digits_train, batch_size=8, seed=0, random_crop=True))


def test_one_epoch_of_digits_is_the_training_split(digits_dir: pathlib.Path) -> None:
    # The epoch ends within a batch, and several threads fill the cache.
    digits = load_source("digits", "train", data_dir=digits_dir)
    batches = list(itertools.islice(feed.TrainFeed(digits, batch_size=64, seed=0), 23))
    index = np.concatenate([batch["index"] for batch in batches])[:1437]
    image = np.concatenate([batch["image"] for batch in batches])[:1437]
    assert sorted(index.tolist()) == list(range(1437))
    expected = np.stack([example["image"] for example in digits])
    np.testing.assert_array_equal(image, expected[index])


# Hypothesis would fail on a busy machine if generating the inputs takes too long.
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    length=st.integers(1, 40),
    batch_size=st.integers(1, 20),
    multiple_of=st.integers(1, 8),
    process_count=st.integers(1, 5),
)
def test_evaluation_counts_every_example_once(
    length: int, batch_size: int, multiple_of: int, process_count: int
) -> None:
    feeds = [
        list(
            eval_feed(
                length,
                batch_size=batch_size,
                multiple_of=multiple_of,
                process_index=index,
                process_count=process_count,
            )
        )
        for index in range(process_count)
    ]
    assert len({len(batches) for batches in feeds}) == 1
    batches = list(itertools.chain(*feeds))

    (size,) = {len(batch["is_example"]) for batch in batches}
    assert size % multiple_of == 0
    assert 0 <= size - batch_size / process_count < multiple_of
    for batch in batches:
        assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
            "image": (np.uint8, (size, 2, 3, 1)),
            "label": (np.int32, (size,)),
            "index": (np.int64, (size,)),
            "is_example": (np.float32, (size,)),
        }
        padding = batch["is_example"] == 0
        assert np.all(batch["is_example"][~padding] == 1)
        assert np.all(batch["index"][padding] == -1)
        assert not batch["image"][padding].any()
        assert not batch["label"][padding].any()
        np.testing.assert_array_equal(batch["image"][~padding, 0, 0, 0], batch["index"][~padding])

    seen = np.concatenate([batch["index"][batch["is_example"] == 1] for batch in batches])
    assert sorted(seen.tolist()) == list(range(length))


def test_evaluation_keeps_the_order_and_can_pad_a_whole_batch() -> None:
    processes = [
        list(eval_feed(5, batch_size=6, process_index=index, process_count=3))
        for index in (0, 1, 2)
    ]
    assert [batch["index"].tolist() for batches in processes for batch in batches] == [
        [0, 1],
        [2, 3],
        [4, -1],
    ]
    last = list(eval_feed(2, batch_size=6, process_index=2, process_count=3))
    assert [batch["is_example"].tolist() for batch in last] == [[0, 0]]


def test_padding_has_the_shape_of_masks(digits_dir: pathlib.Path) -> None:
    scenes = load_source("digit_scenes", "test[:5]", data_dir=digits_dir, label_key="mask")
    first, last = feed.eval_feed(scenes, batch_size=3)
    for batch in (first, last):
        assert (batch["label"].dtype, batch["label"].shape) == (np.int32, (3, 64, 64))
    assert (last["is_example"].tolist(), last["index"].tolist()) == ([1, 1, 0], [3, 4, -1])
    assert last["label"][1].any()
    assert not last["label"][2].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"batch_size": 8, "process_count": 3},
            "batch_size=8. Use a multiple of 3, for example 9",
        ),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"process_index": 2, "process_count": 2}, "process_index=2, process_count=2"),
        ({"seed": -1}, "seed of at least 0, got -1"),
        ({"length": 0}, "got an empty one"),
    ],
)
def test_training_feed_rejects_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        train_feed(**{"length": 37, **arguments})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"multiple_of": 0}, "multiple_of of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"process_index": -1}, "process_index=-1, process_count=1"),
        ({"length": 0}, "got an empty one"),
    ],
)
def test_evaluation_feed_rejects_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        eval_feed(**{"length": 5, "batch_size": 4, **arguments})
    assert message in str(error.value)
