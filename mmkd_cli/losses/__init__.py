"""Losses: pure functions on tensors, computed in float32 whatever precision surrounds them."""
