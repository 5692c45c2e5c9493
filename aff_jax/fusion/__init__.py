"""Fusions of two feature maps of the same shape.

All files use these symbols::

    x       the first input, weighted by M: the residual branch, or the deeper feature map
    y       the second input, weighted by 1 - M: the identity, or the shallower feature map
    u       the input of the attention: x + y or another combination of both
    M(u)    the weights of the attention, between 0 and 1
    z       the output

The order of the inputs is that of the authors' code. The paper (section 4.1) has it the other way
round: its X is the identity or shallower map, which is y here, and its Y is x here. Its initial
integration is u, and its Z is z.
"""
