"""Rows of a comparison, made by hand."""

from aff_jax.parity.rows import ONLY_JAX, Row

SHAPE, LAYOUT = (2, 4, 4, 8), "channels first"
SAME = Row("conv1", "stem/conv", 1, SHAPE, LAYOUT, 1e-7, 2e-7, 1e-4)
ZERO = Row("bn1", "stem/norm", 1, SHAPE, LAYOUT, 0.0, 0.0, 1e-4)
OFF = Row("fuse.sigmoid", "stage1_block0/fuse/sigmoid", 2, SHAPE, LAYOUT, 0.5, 0.25, 1e-4)
OUT = Row("", "", 1, (2, 10), "same", 1e-8, 1e-8, 1e-4)
ABSENT = Row("<b>", "", 1, (2, 10), note=ONLY_JAX)
