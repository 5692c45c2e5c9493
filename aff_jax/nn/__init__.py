"""Building blocks of every module: batch normalization, convolutions, poolings, input checks."""
