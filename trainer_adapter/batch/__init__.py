"""Memory of a batch, and its way to the device."""
