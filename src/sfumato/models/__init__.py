"""Models: networks with weights, one loader per checkpoint family. No sampling, no methods."""
