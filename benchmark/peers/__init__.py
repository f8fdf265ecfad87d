"""Servers and clients for the comparison with raw ONNX Runtime and other model servers."""
