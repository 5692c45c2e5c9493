"""Building blocks of the modules: batch normalization, convolutions, poolings, input checks."""
