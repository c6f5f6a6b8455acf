"""Waveforms as windows of one length, for training."""
