"""Fusions of two feature maps of the same shape.

All files use the symbols of the paper, in lower case::

    x, y    the two inputs, X and Y
    u       what the attention reads: x + y or another combination, the paper's initial integration
    M(u)    the weights of attention, between 0 and 1
    z       the output, Z
"""
