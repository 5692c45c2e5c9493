"""Count what a compiled program does: bytes, operations, estimated cycles and collectives."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from train.plan.hlo import Instruction, Program, array_bytes

__all__ = ["Operation", "Traffic", "count_traffic", "module_of"]

_FREE = (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "iota",
    "add-dependency",
)
"""Instructions that move nothing: their results are parts or names of arrays that exist."""
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "collective-broadcast",
)
_READS_SLICE = ("dynamic-slice", "gather", "slice")
"""Operations that read only a slice of their first operand."""
_WRITES_SLICE = ("dynamic-update-slice",)
"""Operations that write only a slice of their first operand."""
_AT_POSITIONS = ("gather", "scatter")
"""Operations at computed positions, for which the TPU compiler has no estimate."""
_LARGE = 2**16
"""Bytes of a result at computed positions from which on the time is worth naming."""
_WRAPPER = re.compile(r"^(jit|pmap|shard_map|vmap|while|body|cond|closed_call|checkpoint|remat)\b")
_DERIVATIVE = re.compile(r"^(?:transpose\()?(?:jvp|rematted_computation|remat)?\(?([^()]*)\)*$")


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a compiled program, summed over the passes of the loops around it.

    Attributes:
        name: Name in the program.
        opcode: Kind of the operation.
        module: Path of the module that it comes from, and its last operation of JAX.
        bytes: Bytes of its operands and results in the chip's memory.
        cycles: Cycles that the compiler estimates; 0 without an estimate.
    """

    name: str
    opcode: str
    module: str
    bytes: int
    cycles: int


@dataclasses.dataclass(frozen=True)
class Traffic:
    """The bytes, operations and collectives of one execution of a program on one device.

    Attributes:
        bytes: Bytes of the operands and results of all operations in the device's memory, without
            buffers in on-chip memory and without the padding of tiles.
        executed: Number of operations that are executed; on a GPU, each is a kernel.
        cycles: Sum of the compiler's estimates; 0 if it has none.
        collectives: Number of collectives of each kind.
        collective_bytes: Bytes of the operands of all collectives of each kind.
        operations: The operations, the most expensive first.
        loops_counted_once: Names of the loops of which the program does not say how often they run,
            such as one that draws random numbers until all are accepted.
        without_estimate: Modules of the large gathers and scatters that have no estimate in a
            program whose other operations have one.
    """

    bytes: int
    executed: int
    cycles: int
    collectives: dict[str, int]
    collective_bytes: dict[str, int]
    operations: tuple[Operation, ...]
    loops_counted_once: tuple[str, ...] = ()
    without_estimate: tuple[str, ...] = ()


def count_traffic(program: Program) -> Traffic:
    """Count the bytes, operations, cycles and collectives of a program.

    A loop counts as often as it runs, or once if the program does not say how often. The most
    expensive branch of a conditional counts.

    Args:
        program: The program.

    Returns:
        The counts.
    """
    operations = list(_executed(program, program.entry, 1))
    collectives: Counter[str] = Counter()
    collective_bytes: Counter[str] = Counter()
    found = []
    for instruction, computation, times in operations:
        kind = instruction.opcode.removesuffix("-start")
        if kind in _COLLECTIVES:
            operands = (computation[name].shape for name in instruction.operands)
            collectives[kind] += times
            collective_bytes[kind] += times * sum(array_bytes(x, on_chip=True) for x in operands)
        found.append(
            Operation(
                instruction.name,
                instruction.opcode,
                module_of(instruction.op_name),
                times * _bytes(program, computation, instruction),
                times * instruction.estimated_cycles,
            )
        )
    cycles = sum(operation.cycles for operation in found)
    unestimated = [
        operation.module or operation.name
        for operation, (instruction, _, _) in zip(found, operations, strict=True)
        if cycles and not operation.cycles and _is_large_gather(program, instruction)
    ]
    found.sort(key=lambda operation: (operation.cycles, operation.bytes), reverse=True)
    return Traffic(
        bytes=sum(operation.bytes for operation in found),
        executed=sum(times for _, _, times in operations),
        cycles=cycles,
        collectives=dict(collectives),
        collective_bytes=dict(collective_bytes),
        operations=tuple(found),
        loops_counted_once=tuple(
            instruction.op_name or instruction.name
            for computation in program.computations.values()
            for instruction in computation.values()
            if instruction.opcode == "while" and _trips(program, computation, instruction) is None
        ),
        without_estimate=tuple(dict.fromkeys(unestimated)),
    )


def module_of(op_name: str) -> str:
    """Return the module that an operation comes from, without the wrappers of JAX.

    Args:
        op_name: Name in the program, such as "jit(f)/jvp(AFF)/local/reduce/dot_general".

    Returns:
        The path, such as "AFF/local/reduce/dot_general", with " (backward)" for a gradient.
    """
    backward = "transpose(" in op_name
    parts: list[str] = []
    for part in op_name.split("/"):
        if _WRAPPER.match(part) and "jvp(" not in part:
            continue
        match = _DERIVATIVE.match(part)
        name = match[1] if match else part
        if name and (not parts or parts[-1] != name):
            parts.append(name)
    return "/".join(parts) + (" (backward)" if backward else "")


_Executed = tuple[Instruction, Mapping[str, Instruction], int]
"""An instruction, its computation, and how often it is executed."""


def _executed(program: Program, name: str, times: int) -> Iterator[_Executed]:
    """Yield the executed instructions of a computation and of the computations that it calls.

    The end of an asynchronous operation is left out, because its start is counted.
    """
    computation = program.computations[name]
    for instruction in computation.values():
        opcode = instruction.opcode
        if opcode == "while":
            body = instruction.called("body") or ""
            trips = _trips(program, computation, instruction) or 1
            yield from _executed(program, body, times * trips)
        elif opcode == "conditional":
            branches = [list(_executed(program, branch, times)) for branch in instruction.branches]
            yield from max(branches, key=lambda branch: _cost(program, branch), default=[])
        elif opcode == "call":
            yield from _executed(program, instruction.called("to_apply") or "", times)
        elif opcode not in _FREE and not opcode.endswith(("-done", "-update")):
            yield instruction, computation, times


def _cost(program: Program, executed: Sequence[_Executed]) -> tuple[int, int]:
    """Return the estimated cycles, 0 on a GPU, and the bytes, by which branches are compared."""
    cycles = sum(times * instruction.estimated_cycles for instruction, _, times in executed)
    size = sum(times * _bytes(program, inside, x) for x, inside, times in executed)
    return cycles, size


def _is_large_gather(program: Program, instruction: Instruction) -> bool:
    """Return whether an operation is, or contains, a gather or scatter of many values."""
    fused = program.computations.get(instruction.called("calls") or "", {})
    return array_bytes(instruction.shape, on_chip=True) >= _LARGE and any(
        x.opcode in _AT_POSITIONS for x in (instruction, *fused.values())
    )


def _trips(
    program: Program, computation: Mapping[str, Instruction], loop: Instruction
) -> int | None:
    """Return how often a loop runs: the constant that its condition compares a counter with.

    Most loops have the count in their attributes. For the others, the bound is a constant in the
    condition, or a constant that the loop carries. There is none if the values that the loop
    computes decide when it ends.
    """
    if loop.trip_count is not None:
        return loop.trip_count
    condition = program.computations[loop.called("condition") or ""]
    carried = computation[loop.operands[0]].operands

    def values(name: str) -> Iterator[int]:
        """Yield the constants that a value of the condition is computed from."""
        instruction = condition[name]
        if instruction.opcode == "constant":
            yield _constant(instruction)
        elif instruction.opcode == "get-tuple-element":
            index = re.search(r"index=(\d+)", instruction.attributes)
            if index and int(index[1]) < len(carried):
                source = computation[carried[int(index[1])]]
                while source.opcode in ("copy", "bitcast") and source.operands:
                    source = computation[source.operands[0]]
                if source.opcode == "constant":
                    yield _constant(source)
        else:
            for operand in instruction.operands:
                yield from values(operand)

    root = next(instruction for instruction in condition.values() if instruction.is_root)
    # The counter begins at zero, so the larger constant is the bound.
    return max(values(root.name), default=0) or None


def _constant(instruction: Instruction) -> int:
    """Return the value of a constant, 0 if it is not an integer."""
    return int(instruction.arguments) if re.fullmatch(r"-?\d+", instruction.arguments) else 0


def _bytes(
    program: Program, computation: Mapping[str, Instruction], instruction: Instruction
) -> int:
    """Return the bytes of the operands and results in the device's memory."""
    operands = [computation[name] for name in instruction.operands]
    sizes = [array_bytes(operand.shape) for operand in operands]
    result = array_bytes(instruction.shape)
    opcode = instruction.opcode
    if opcode.endswith("-start"):
        # The result of a start repeats its operands: the sizes of both ends are in it.
        return result
    if opcode in _READS_SLICE:
        return 2 * result
    if opcode in _WRITES_SLICE:
        return 2 * sizes[1]
    if opcode == "fusion":
        fused = program.computations.get(instruction.called("calls") or "", {})
        sizes, result = _fused_bytes(fused, sizes, result)
    return sum(sizes) + result


def _fused_bytes(
    fused: Mapping[str, Instruction], sizes: list[int], result: int
) -> tuple[list[int], int]:
    """Return the bytes of a fusion's operands and result, where it touches only slices of them.

    A loop over the layers of a stacked array reads one layer a pass. Without this, each pass would
    count the whole array.
    """
    users: dict[str, list[Instruction]] = {}
    for instruction in fused.values():
        for operand in instruction.operands:
            users.setdefault(operand, []).append(instruction)
    sizes = list(sizes)
    for instruction in fused.values():
        if instruction.opcode != "parameter" or not sizes:
            continue
        number = int(instruction.arguments)
        reading = users.get(instruction.name, [])
        if not reading or number >= len(sizes):
            continue
        first = all(user.operands[0] == instruction.name for user in reading)
        if first and all(user.opcode in _READS_SLICE for user in reading):
            slices = sum(array_bytes(user.shape, on_chip=True) for user in reading)
            sizes[number] = min(sizes[number], slices)
        elif first and all(user.opcode in _WRITES_SLICE for user in reading):
            sizes[number] = 0
    root = next((x for x in fused.values() if x.is_root), None)
    if root is not None and root.opcode in _WRITES_SLICE:
        result = min(result, array_bytes(fused[root.operands[1]].shape, on_chip=True))
    return sizes, result
