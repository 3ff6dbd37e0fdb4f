"""The kernel language: loops over buffers with explicit vectors. Knows no tensors."""
