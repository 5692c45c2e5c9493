"""Files that appear whole or not at all, and arrays in .safetensors files."""
