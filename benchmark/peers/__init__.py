"""The ensemble against raw ONNX Runtime and against other ways to serve the same model, in turn on the same cores."""
