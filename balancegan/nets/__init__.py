"""Network building blocks and architectures, on tensors only."""
