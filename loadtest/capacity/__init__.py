"""Search for the highest rate that meets the objectives."""
