"""What is asked for: a run and a study as values, read from YAML or flags and checked."""
