"""Converters of ONNX operators, by family; each registers itself with `..registry`."""
