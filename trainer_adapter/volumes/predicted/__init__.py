"""Label maps of stacks, such as a network predicts them, to where the images came from."""
