"""What a run is held against: objectives, verdicts, baselines, and where the time went."""
