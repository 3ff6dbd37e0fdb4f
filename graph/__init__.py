"""The tensor language: types, nodes, text form, verifier and reference interpreter."""
