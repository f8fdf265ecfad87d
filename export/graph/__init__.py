"""The three ONNX graphs that Triton serves, made from the trained network."""
