"""Writers: what each op is in ONNX, a family to a file."""
