"""Questions about a mechanism, a data set or a stored run that need no study."""
