"""3-D patches: CacheLoader against memcpy, MONAI, torchio and nnU-Net, on the same volumes."""
