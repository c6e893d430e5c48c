"""Trained networks as other programs run them: exported, checked against ours, quantised, and timed where they will run."""
