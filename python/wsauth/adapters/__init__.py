"""Guards for the servers people use. Each module imports its framework; this one imports none."""
