"""The classes of a run and those of a dataset are the same, in the same order."""

import pytest

from train.data.sources.class_names import require_same_classes


def test_equal_names_pass() -> None:
    require_same_classes(["sky", "tree"], ("sky", "tree"), "data")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            ("tree", "sky", "house"),
            r"the 3 classes that this run was trained with, got 3 in data\. Moved: 'sky' was class "
            r"0 and is class 1, 'tree' was class 1 and is class 0\. A prediction",
        ),
        (("sky", "house"), r"got 2 in data\. Missing: 'tree'\. "),
        (("sky", "tree", "house", "car"), r"got 4 in data\. New: 'car'\. "),
        (("sky", "trees", "house"), r"Missing: 'tree'; new: 'trees'\. .* in another --workdir"),
    ],
)
def test_differences_are_named(found: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_same_classes(("sky", "tree", "house"), found, "data")
