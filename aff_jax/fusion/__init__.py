"""Fusions of two feature maps of the same shape.

All files use these symbols::

    x       the first input: the residual branch, or the deeper feature map
    y       the second input: the identity, or the shallower feature map
    u       the input of the attention: x + y or another combination of both
    M(u)    weights between 0 and 1; in AFF and IAFF, x has the weight M(u) and y has 1 - M(u)
    z       the output

The formula of AFF is equation 4 of the paper, Z = M(X + Y) * X + (1 - M(X + Y)) * Y, in small
letters. The paper's initial integration is u. Which map is the first input is another question: the
text of the paper (section 4.1) makes X the identity or the shallower map, and the authors' code
passes it second. The hosts of this library follow the code: x is the Y of that section, and y its
X. Both orders can describe the same functions, but with other weights: M here is 1 - M there, and
1 - sigmoid(l) = sigmoid(-l).

`aff_jax.fusion.gated` says what the weights of its fusions apply to.
"""
