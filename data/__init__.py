"""Data that ships with flowmill, and readers of plain data files."""
