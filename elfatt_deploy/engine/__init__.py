"""From an ONNX file to a TensorRT plan: in process or by trtexec, and what the plan really is."""
