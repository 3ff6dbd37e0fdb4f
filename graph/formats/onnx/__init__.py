"""ONNX models: into graphs, and graphs into ONNX models."""
