"""Label maps of images, out of the rows of masks that lie on them."""
