"""Methods to compare the model with: plain functions of tensors that return scores [pictures, N], and two losses."""
