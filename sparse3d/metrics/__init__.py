"""Image, pose and geometry measures, and the evaluation protocol."""
