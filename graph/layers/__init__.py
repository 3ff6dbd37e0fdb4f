"""The six categories of layers, each a composition of ops with named parameters."""
