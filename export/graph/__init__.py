"""From the trained network to the three ONNX graphs that Triton serves."""
