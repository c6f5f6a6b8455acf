"""Windows for CT by name."""

from __future__ import annotations

PRESETS = {
    "lung": (-600.0, 1500.0),
    "soft": (40.0, 400.0),
    "mediastinum": (50.0, 350.0),
    "abdomen": (60.0, 400.0),
    "liver": (30.0, 150.0),
    "bone": (300.0, 1500.0),
    "brain": (40.0, 80.0),
    "stroke": (32.0, 8.0),
    "subdural": (75.0, 215.0),
    "angio": (300.0, 600.0),
}
"""center and width in HU; the names that recipes of the converter know"""
