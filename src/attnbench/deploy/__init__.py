"""Networks as other programs run them: exported, checked against ours, in INT8, and timed where they will run."""
