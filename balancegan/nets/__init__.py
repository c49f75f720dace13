"""Network building blocks and architectures. Tensors in, tensors out."""
