"""What the engine says of itself: metric catalogue, metrics, step records and traces."""
