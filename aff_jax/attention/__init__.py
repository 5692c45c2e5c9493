"""Channel attention: weights computed from the context of a feature map."""
