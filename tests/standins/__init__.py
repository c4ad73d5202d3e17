"""Archives on loopback that keep the contracts of the real ones, faults included."""
