"""File formats a graph can be saved to and loaded from."""
