"""The ablation study: every variant and comparison method on one data set, with several seeds, as one report."""
