"""Who is trained on and who is held out: groups of frames, and their sides."""
