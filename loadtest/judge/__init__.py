"""Judgement of a run: objectives, verdict, comparison with a baseline, and a breakdown of its time."""
