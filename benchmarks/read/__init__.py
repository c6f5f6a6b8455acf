"""CacheLoader against its peers and memcpy."""
