"""Pictures of graphs and memory plans. Imports nothing; see the modules."""
