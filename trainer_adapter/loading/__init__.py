"""Samples, labels and batches for PyTorch."""
