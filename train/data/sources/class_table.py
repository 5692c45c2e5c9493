"""The class of each stored value or color of a mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Int, UInt8

__all__ = ["IGNORED_VALUE", "MAX_CLASSES", "ClassTable", "color_code", "color_of", "color_text"]

IGNORED_VALUE = 255
"""Value of the ignored pixels of a mask, as in Pascal VOC and Cityscapes. Their label in a batch is
`train.data.batch.IGNORED_LABEL`.
"""

MAX_CLASSES = IGNORED_VALUE
"""Largest number of classes, because labels have 8 bits."""


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """The class of each stored value of a mask.

    Attributes:
        class_names: Names of the classes, in the order of their numbers.
        numbers: Class number of each stored value, or `IGNORED_VALUE`. Several values may be one
            class.
        by_color: Whether the stored values are colors, as `color_code` numbers them.
    """

    class_names: tuple[str, ...]
    numbers: Mapping[int, int]
    by_color: bool = False

    @classmethod
    def numbered(cls, class_names: Iterable[str]) -> ClassTable:
        """Return the table of masks whose values are class numbers, and 255 for ignored pixels.

        Args:
            class_names: Names of the classes.

        Returns:
            The table.
        """
        names = tuple(class_names)
        return cls(names, {**{k: k for k in range(len(names))}, IGNORED_VALUE: IGNORED_VALUE})

    def ignoring(self, values: Iterable[int]) -> ClassTable:
        """Return the table in which some values are ignored as well.

        A class without another value is left out, and the classes after it have smaller numbers.

        Args:
            values: Values of masks, see the config field `ignored_values`.

        Returns:
            The table.

        Raises:
            ValueError: If the masks have colors.
        """
        ignored = dict.fromkeys(values, IGNORED_VALUE)
        if not ignored:
            return self
        if self.by_color:
            raise ValueError(
                f"expected no ignored_values for masks whose classes are colors, got "
                f"{sorted(ignored)}. Name the color 'void' in classes.txt, as in '0 0 0 void'."
            )
        numbers = {**self.numbers, **ignored}
        kept = sorted(set(numbers.values()) - {IGNORED_VALUE})
        renumbered = {number: k for k, number in enumerate(kept)} | {IGNORED_VALUE: IGNORED_VALUE}
        return ClassTable(
            tuple(self.class_names[number] for number in kept),
            {value: renumbered[number] for value, number in numbers.items()},
        )

    @property
    def class_colors(self) -> tuple[str, ...]:
        """Return the color of each class as `#rrggbb`; () if the values are not colors."""
        return tuple(map(color_text, self.first_values())) if self.by_color else ()

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Find the values that are neither a class nor ignored.

        Args:
            values: Values of a mask.

        Returns:
            These values in ascending order.
        """
        return sorted(set(values) - self.numbers.keys())

    def labels(
        self, stored: Int[np.ndarray, "height width"]
    ) -> tuple[UInt8[np.ndarray, "height width"], list[int]]:
        """Convert the stored values of a mask to class numbers.

        Args:
            stored: Integers.

        Returns:
            A tuple of uint8 class numbers, or `IGNORED_VALUE`, and of the values that are not in
            the table, in ascending order.
        """
        known = np.array(sorted(self.numbers))
        labels = np.array([self.numbers[value] for value in known.tolist()], np.uint8)
        if stored.dtype == np.uint8:
            every_label = np.full(256, IGNORED_VALUE, np.uint8)
            every_label[known[known < 256]] = labels[known < 256]
            # Much faster than sorting the pixels.
            values = np.flatnonzero(np.bincount(stored.ravel()))
            return every_label[stored], self.unknown(values.tolist())
        index = np.searchsorted(known, stored).clip(max=len(known) - 1)
        wrong = known[index] != stored
        return labels[index], np.unique(stored[wrong]).tolist()

    def count(self, counts: Mapping[int, int]) -> Int[np.ndarray, " classes"]:
        """Count the pixels of each class.

        Args:
            counts: Number of pixels of each stored value, all of them in the table.

        Returns:
            int64 `(classes,)`.
        """
        pixels = np.zeros(IGNORED_VALUE + 1, np.int64)
        for value, count in counts.items():
            pixels[self.numbers[value]] += count
        return pixels[: len(self.class_names)]

    def describe(self) -> dict[str, str]:
        """Return the name of the class of each value, or of each color as `#rrggbb`.

        Returns:
            Names by the text of the value. Ignored values are left out.
        """
        return {
            self._text(value): self.class_names[number]
            for value, number in self.numbers.items()
            if number != IGNORED_VALUE
        }

    def ignored(self) -> list[str]:
        """Return the values that are ignored, or their colors as `#rrggbb`."""
        return [self._text(v) for v, number in self.numbers.items() if number == IGNORED_VALUE]

    def _text(self, value: int) -> str:
        return color_text(value) if self.by_color else str(value)

    def first_values(self) -> list[int]:
        """Return one stored value of each class, the first one in the table."""
        values: dict[int, int] = {}
        for value, number in self.numbers.items():
            values.setdefault(number, value)
        return [values[number] for number in range(len(self.class_names))]


def color_code(color: Iterable[int]) -> int:
    """Number a color: `R * 65536 + G * 256 + B`.

    Args:
        color: Red, green and blue.

    Returns:
        The number.
    """
    red, green, blue = color
    return red << 16 | green << 8 | blue


def color_of(code: int) -> tuple[int, int, int]:
    """Return the color that `color_code` numbers.

    Args:
        code: The number.

    Returns:
        Red, green and blue.
    """
    return code >> 16, code >> 8 & 255, code & 255


def color_text(code: int) -> str:
    """Return the color that `color_code` numbers, as a text.

    Args:
        code: The number.

    Returns:
        `#rrggbb`.
    """
    return f"#{code:06x}"
