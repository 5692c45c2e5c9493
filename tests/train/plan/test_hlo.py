"""The text of compiled programs is read as it is written."""

import jax
import jax.numpy as jnp
import pytest

from tests.train.plan.programs import TPU
from train.plan.hlo import array_bytes, parse


def test_instructions_have_shapes_opcodes_operands_and_attributes():
    program = parse(TPU)
    assert program.entry == "main"
    main = program.computations["main"]
    loop = main["loop"]
    assert loop.opcode == "while"
    assert loop.operands == ("carry",)
    assert (loop.called("body"), loop.called("condition")) == ("body", "condition")
    assert main["out"].is_root
    assert main["end"].arguments == "4"
    assert main["reduced"].operands == ("weights", "start")
    assert main["reduced"].op_name == "jit(f)/shard_map/psum"
    read = program.computations["body"]["read"]
    assert read.estimated_cycles == 1000
    assert read.called("calls") == "fused"


@pytest.mark.parametrize(
    ("shape", "size", "everywhere"),
    [
        ("f32[]{:T(128)}", 4, 4),
        ("bf16[4,8,128]{2,1,0:T(8,128)(2,1)}", 8192, 8192),
        ("(f32[16]{0:T(128)S(1)}, f32[16]{0:T(128)}, u32[]{:S(2)})", 64, 132),
        ("pred[3]{0}", 3, 3),
        ("s4[16]{0}", 8, 8),
        ("f8e4m3fn[16]", 16, 16),
        ("token[]", 0, 0),
    ],
)
def test_bytes_of_arrays_in_memory_and_everywhere(shape, size, everywhere):
    assert array_bytes(shape) == size
    assert array_bytes(shape, on_chip=True) == everywhere


def test_a_loop_has_the_trip_count_that_the_compiler_writes():
    def f(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c) @ c, None), x, None, length=7)[0]

    text = jax.jit(f).lower(jnp.ones((4, 4))).compile().as_text()
    instructions = [i for c in parse(text).computations.values() for i in c.values()]
    assert [i.trip_count for i in instructions if i.opcode == "while"] == [7]


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="expected the text of a compiled program"):
        parse("HloModule empty")
