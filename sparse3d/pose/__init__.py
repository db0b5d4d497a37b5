"""Camera poses: known ones and estimated ones."""
