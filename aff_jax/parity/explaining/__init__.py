"""Explanations of the first mismatch of two networks.

If only one of the networks made a call, `calls` counts the calls of both sides. Otherwise,
`evidence` runs both networks again and records the inputs of the layer of the first mismatch, and
`explanation` asks these questions in this order. The first answer is the explanation:

1. Does the input of the layer have the same shape and values in both networks? If not, the cause
   is before the layer. `relations` looks for it between the two inputs.
2. Does the layer have PyTorch's weights? `weight_causes` compares them.
3. Does the layer have PyTorch's settings? `field_causes` runs it alone with those settings.
   `single_layer` is such a layer, and `nnx_layers` makes one from an NNX module.
4. How can PyTorch's output be computed from JAX's output? `relations` looks for a formula.

`relations` compares two arrays that should be equal. It tries, in this order:

1. A factor or an offset.
2. Another order of the values (`reordering`).
3. A missing term or factor.
4. Another function of one earlier activation (`function_causes`, with the table `functions`).
5. Another sum, product or attention of several activations (`combinations`).
6. A scale and an offset for each channel.
7. A shift by some pixels (`reordering`).
8. What one network computes, if the function of the other is unknown (`function_causes`).
"""
