"""Stacks as volumes: which frames are one, and where its voxels lie."""
