"""A torch module becomes an ONNX file, and the golden inputs and outputs beside it."""
