"""Channel attention: weights read from the context of a feature map."""
