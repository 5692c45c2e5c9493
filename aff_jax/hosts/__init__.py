"""Host networks: the networks whose feature maps are fused. "Host network" is the paper's term."""
