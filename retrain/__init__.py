"""The nightly retrain: what became known by the cut-off becomes a better model by morning, or nothing changes."""
