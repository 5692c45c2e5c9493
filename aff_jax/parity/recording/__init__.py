"""Recordings of what the submodules of a network return.

`recorder` defines a recorded call and records the calls of a program in JAX. `linen_recording` and
`nnx_recording` run a module in JAX with it, and `torch_recording` runs a module of PyTorch.
`torch_network` renames the submodules of PyTorch and converts their weights. `inputs` changes the
dtype and the layout of inputs, and perturbs them.
"""
