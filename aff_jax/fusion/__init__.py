"""Fusions of two feature maps of the same shape.

All files use these symbols::

    x       the first input: the residual branch, or the deeper feature map
    y       the second input: the identity, or the shallower feature map
    u       the input of the attention: x + y or another combination of both
    M(u)    weights between 0 and 1; in AFF and IAFF, x has the weight M(u) and y has 1 - M(u)
    z       the output

Equation 4 of the paper (section 4.1) is Z = M(X + Y) * X + (1 - M(X + Y)) * Y, where X is the
identity or the shallower map. The authors' code exchanges the inputs, and so does this library: x
is the paper's Y, y is the paper's X, and M is the paper's 1 - M. Both describe the same functions,
since 1 - sigmoid(l) = sigmoid(-l). The paper's initial integration is u, and its Z is z.
`aff_jax.fusion.gated` says what the weights of its fusions apply to.
"""
