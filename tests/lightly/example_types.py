"""pydicom's examples that LightlyTrain is trained on."""

SINGLE = ("ct", "mr", "overlay", "rgb_color", "palette_color", "jpeg2k")
MULTI = ("rt_dose", "ybr_color")
COPIES = 4
"""files of each single-frame example"""
