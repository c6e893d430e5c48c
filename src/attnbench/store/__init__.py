"""What is kept of runs: folders on disk, and MLflow as their mirror."""
