"""The networks whose features are fused; "host network" is the paper's word."""
