"""Models that are trained, and whatever else embeds pictures and texts for the benches."""
