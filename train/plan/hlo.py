"""Read the text of a compiled program: its computations, and their instructions."""

import dataclasses
import math
import re
from collections.abc import Iterator

__all__ = ["Instruction", "Program", "array_bytes", "parse"]

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_ASSIGNMENT = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b(pred|token|[a-z]+\d+\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_CALLED = re.compile(
    r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_BITS = re.compile(r"\d+")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction of a computation.

    Attributes:
        name: Name, unique in the program.
        shape: Text of the result's shape with its layout; a tuple is in parentheses.
        opcode: Operation, such as "fusion".
        operands: Names of the operands.
        arguments: Text between the parentheses, the value of a constant.
        attributes: Text after the parentheses.
        is_root: Whether its result is the result of the computation.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    def called(self, role: str) -> str | None:
        """Return the name of the computation that an attribute names.

        Args:
            role: The attribute, such as "body".

        Returns:
            The name, or None if there is no such attribute.
        """
        return next((name for key, name in _CALLED.findall(self.attributes) if key == role), None)

    @property
    def branches(self) -> tuple[str, ...]:
        """Return the names of the computations of a conditional."""
        match = _BRANCHES.search(self.attributes)
        if match:
            return tuple(_OPERAND.findall(match[1]))
        pair = self.called("true_computation"), self.called("false_computation")
        return tuple(name for name in pair if name)

    @property
    def op_name(self) -> str:
        """Return the name of the operation of JAX that it comes from, or ""."""
        match = re.search(r'op_name="([^"]*)"', self.attributes)
        return match[1] if match else ""

    @property
    def estimated_cycles(self) -> int:
        """Return the TPU compiler's estimate of its cycles, 0 if there is none."""
        match = re.search(r'"estimated_cycles":"?(\d+)', self.attributes)
        return int(match[1]) if match else 0

    @property
    def trip_count(self) -> int | None:
        """Return how often a loop runs, if the compiler has written it down."""
        match = re.search(r'"known_trip_count":\{"n":"?(\d+)', self.attributes)
        return int(match[1]) if match else None


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        computations: The instructions of each computation by its name, in order.
        entry: Name of the computation that is the program.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str


def parse(text: str) -> Program:
    """Read the text of a program.

    Args:
        text: The text, as `jax.stages.Compiled.as_text` returns it.

    Returns:
        The program.

    Raises:
        ValueError: If the text has no entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry = ""
    instructions: dict[str, Instruction] = {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            instructions = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif assignment := _ASSIGNMENT.match(line):
            instruction = _instruction(line, assignment)
            instructions[instruction.name] = instruction
    if not entry:
        raise ValueError("expected the text of a compiled program with an ENTRY, found none.")
    return Program(computations, entry)


def array_bytes(shape: str, *, on_chip: bool = False) -> int:
    """Return the bytes of the arrays of a shape.

    Args:
        shape: Text of a shape or of a tuple, with layouts.
        on_chip: Whether to count arrays in on-chip memory, whose layout has an S(n), too.

    Returns:
        Bytes without the padding of tiles.
    """
    return sum(
        math.prod(dims) * bits // 8
        for bits, dims, layout in _arrays(shape)
        if on_chip or "S(" not in layout
    )


def _arrays(shape: str) -> Iterator[tuple[int, tuple[int, ...], str]]:
    """Yield the bits of an element, the sides and the layout of each array of a shape."""
    for dtype, sides, layout in _ARRAY.findall(shape):
        bits = _BITS.search(dtype)
        width = 0 if dtype == "token" else int(bits[0]) if bits else 8
        yield width, tuple(int(x.strip("<=")) for x in sides.split(",") if x), layout


def _instruction(line: str, assignment: re.Match[str]) -> Instruction:
    """Read a line "name = shape opcode(arguments), attributes".

    The shape of a tuple and the arguments have parentheses and commas inside, so a regular
    expression cannot find their ends.
    """
    start = assignment.end()
    shape_end = _closing(line, start) if line[start] == "(" else line.index(" ", start)
    opened = line.index("(", shape_end)
    closed = _closing(line, opened)
    arguments = line[opened + 1 : closed - 1]
    return Instruction(
        name=assignment[2],
        shape=line[start:shape_end],
        opcode=line[shape_end:opened].strip(),
        operands=tuple(_OPERAND.findall(arguments)),
        arguments=arguments,
        attributes=line[closed:],
        is_root=bool(assignment[1]),
    )


def _closing(line: str, opened: int) -> int:
    """Return the position after the parenthesis that closes the one at `opened`."""
    depth = 0
    for position in range(opened, len(line)):
        depth += (line[position] == "(") - (line[position] == ")")
        if not depth:
            return position + 1
    raise ValueError(f"expected balanced parentheses in {line[:200]!r}.")
