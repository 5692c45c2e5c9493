"""Name calls in sentences, and explain those that only one of the networks made."""

import dataclasses
import itertools
from collections.abc import Sequence

from aff_jax.parity.rows import ONLY_JAX, Row

__all__ = ["explain_one_sided", "quote_call"]


def quote_call(row: Row) -> str:
    """Name a call in a sentence: by its name in PyTorch, and by its path in JAX if they differ.

    Args:
        row: Row of the call.

    Returns:
        The name, such as "`layer1.0.conv1` (stage1_block0/conv1)".
    """
    if not row.path.partition("[")[0]:
        return f"the whole network{row.path and f', output {row.path},'}"
    number = f", call {row.call}" if row.call > 1 else ""
    where = f" ({row.path}{number})" if row.path.replace("/", ".") != row.name or number else ""
    return f"`{row.name}`{where}"


def explain_one_sided(first: Row, rows: Sequence[Row]) -> str:
    """Explain calls that only one of the networks made.

    Args:
        first: Row of the first such call.
        rows: All rows.

    Returns:
        Sentences with the numbers of calls.
    """
    start = next(i for i, row in enumerate(rows) if row is first)
    block = itertools.takewhile(lambda row: row.is_one_sided, rows[start:])
    # Name a module instead of its submodules, which it calls.
    paths = list(dict.fromkeys((row.path, row.note) for row in block))
    whole = [p for p in paths if not any(p[0].startswith(f"{other}/") for other, _ in paths)]
    named = {(row.path, row.note): row for row in rows}
    return " ".join(_count_calls(named[path], rows) for path in whole[:4])


def _count_calls(row: Row, rows: Sequence[Row]) -> str:
    """Say how often each network makes a call that one of them lacks."""
    if row.is_output:
        return f"{quote_call(row)[:1].upper()}{quote_call(row)[1:]} exists only in JAX."
    same = [other for other in rows if other.path == row.path]
    both = sum(not other.is_one_sided for other in same)
    jax = both + sum(other.note == ONLY_JAX for other in same)
    torch = both + sum(other.is_one_sided and other.note != ONLY_JAX for other in same)
    times = {1: "once", 2: "twice"}
    jax_times, torch_times = (times.get(n, f"{n} times") for n in (jax, torch))
    name = quote_call(dataclasses.replace(row, call=1))
    if not torch:
        return f"{name} is called {jax_times} in JAX and never in PyTorch."
    return (
        f"{name} is called {jax_times} in JAX and {torch_times} in PyTorch: call "
        f"{row.call} in {'JAX' if row.note == ONLY_JAX else 'PyTorch'} has no counterpart."
    )
