"""Ways to fuse two feature maps of one shape."""
