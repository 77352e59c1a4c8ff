"""The closed loop in the world of toy faces, from a gallery to leakage."""
