"""What waits or touches the world."""
