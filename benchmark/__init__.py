"""The benchmark: folded against unfolded, fp32 against int8, repeat against new pictures, served by a real Triton."""
