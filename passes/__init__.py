"""Rewrites: graph to graph, graph to kernels, kernels to a program. One pass per file."""
