"""Operator definitions, one family per module; `registry` finds them by name."""
