"""Windows of waveforms for training: which samples, which channels, in which unit and order."""

from __future__ import annotations

import json
import pickle
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.signal import resample_poly
from torch.utils.data import DataLoader

from tests.support.caches import built
from tests.support.dicom_files import write_dicom
from tests.support.signed import rewrite, with_column
from tests.support.waveforms import channel, group, write_waveform
from trainer_adapter import CacheLoader, FrameDataset, WaveformDataset, WaveformLoader, open_cache
from trainer_adapter.loading.waveforms.channels import Channels
from trainer_adapter.loading.waveforms.rates import ratio_of

_LEADS = [
    ("I", "2:1"), ("II", "2:2"), ("III", "2:61"), ("aVR", "2:62"), ("aVL", "2:63"),
    ("aVF", "2:64"), ("V1", "2:3"), ("V2", "2:4"), ("V3", "2:5"), ("V4", "2:6"), ("V5", "2:7"),
    ("V6", "2:8"),
]  # fmt: skip


def _lead(name: str, label: bool, sensitivity: str, unit: str, old: bool = False) -> Any:
    number = dict(_LEADS)[name]
    source = (number, "MDC", f"Lead {name}")
    if old:
        source = (f"5.6.3-9-{number.removeprefix('2:')}", "SCPECG", f"Lead {name}")
    return channel(f"Lead {name}" if label else None, sensitivity, unit, source)


def _record(
    path: Path, names: list[str], samples: int, sensitivity: str = "1", unit: str = "mV",
    rate: float = 500, label: bool = True, old: bool = False, **elements: Any,
) -> Path:  # fmt: skip
    """Channel k of `names` holds 1000 * (its number among the 12) + the number of the sample."""
    numbers = [[name for name, _ in _LEADS].index(name) for name in names]
    data = 1000 * np.array(numbers)[None, :] + np.arange(samples)[:, None]
    channels = [_lead(name, label, sensitivity, unit, old) for name in names]
    return write_waveform(path, [group(data.astype("<i2"), channels, rate=rate)], **elements)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings: in order, by codes alone and in uV, and in another order and short; an
    image beside them."""
    folder = tmp_path_factory.mktemp("windows")
    names = [name for name, _ in _LEADS]
    _record(folder / "in" / "a", names, 25, PatientID="A")
    _record(folder / "in" / "b", names, 20, "1000", "uV", label=False, old=True, PatientID="B")
    _record(folder / "in" / "c", names[::-1], 7, PatientID="C")
    write_dicom(folder / "in" / "image", np.zeros((3, 4), np.uint8))
    return built("--jobs", "1", folder / "in", folder / "cache")


def _only(path: Path, name: str) -> Any:
    return open_cache(path).select(path=name)


def test_windows_of_a_grid_cover_each_recording(path: Path) -> None:
    data = WaveformDataset(open_cache(path), 10, channels=["V1", "I"], unit="mV")
    assert [data.cache.column("path")[k].as_py() for k in data.recordings] == list("bbaaac")
    assert data.starts(np.arange(6)).tolist() == [0, 10, 0, 10, 20, 0]
    one = data[4]
    assert one.signal.dtype == torch.float32
    expected = [[*range(6020, 6025), *[np.nan] * 5], [*range(20, 25), *[np.nan] * 5]]
    np.testing.assert_array_equal(one.signal, np.array(expected, np.float32))
    assert (one.start, one.label, data.units) == (20, None, ("mV", "mV"))
    np.testing.assert_array_equal(data[0].signal[0], np.arange(6000, 6010))  # 1000 uV are 1 mV
    np.testing.assert_array_equal(data[5].signal[1][:7], np.arange(7))  # in another order there


def test_windows_that_overlap(path: Path) -> None:
    data = WaveformDataset(_only(path, "a"), 10, stride=6)
    assert data.starts(np.arange(len(data))).tolist() == [0, 6, 12, 18]
    assert int(torch.isnan(data[3].signal).sum()) == 12 * 3


def test_twelve_leads_by_label_or_code(path: Path) -> None:
    data = WaveformDataset(open_cache(path), 5, channels="12-lead", unit="uV", at="start")
    assert data.channels == tuple(name for name, _ in _LEADS)
    assert len(data) == 3
    for k in range(3):
        np.testing.assert_array_equal(data[k].signal[:, 0], 1000.0 * 1000 * np.arange(12))


def test_all_channels_must_be_the_same(path: Path) -> None:
    cache = open_cache(path)
    with pytest.raises(ValueError, match=r"different channels, such as I, II.* and V6, V5"):
        WaveformDataset(cache, 5)
    with pytest.raises(ValueError, match=r"channel I is in mV, uV; give unit=, one of V, mV, uV"):
        WaveformDataset(cache, 5, channels=["I"])
    with pytest.raises(ValueError, match=r"3 of 3 recordings lack a channel, such as V9: there ar"):
        WaveformDataset(cache, 5, channels=["I", "V9"], unit="mV")
    with pytest.raises(ValueError, match=r"legal: a list of names"):
        WaveformDataset(cache, 5, channels="I")


def test_a_name_that_several_channels_have(tmp_path: Path) -> None:
    one, two = ("2:1", "MDC", "Lead I"), ("2:2", "MDC", "Lead II")
    data = np.array([[1, 2, 3, 4]] * 5, "<i2")
    said = [("I", one), ("I", one), ("Rhythm", two), ("II", two)]
    channels = [channel(label, "1", "mV", source) for label, source in said]
    write_waveform(tmp_path / "in" / "a.dcm", [group(data, channels)])
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(
        ValueError, match="several channels of a recording are called I: I, I, Rhyt"
    ):
        WaveformDataset(cache, 5, channels=["I"])
    with pytest.raises(ValueError, match="called MDC:2:2"):
        WaveformDataset(cache, 5, channels=["MDC:2:2"])
    labelled = WaveformDataset(cache, 5, channels=["II", "Rhythm"])
    assert labelled[0].signal[:, 0].tolist() == [4, 3]
    assert WaveformDataset(cache, 5)[0].signal[:, 0].tolist() == [1, 2, 3, 4]


def test_recordings_that_lack_a_channel(tmp_path: Path) -> None:
    _record(tmp_path / "in" / "a", ["I", "II"], 5)
    _record(tmp_path / "in" / "b", ["II"], 5)
    cache = open_cache(built("--jobs", "1", tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(ValueError, match=r'1 of 2 recordings.*such as I: .*give lacking="drop"'):
        WaveformDataset(cache, 5, channels=["I"])
    data = WaveformDataset(cache, 5, channels=["I"], lacking="drop")
    assert data.cache.column("path").to_pylist() == ["a"]


def test_one_unit_and_one_rate(tmp_path: Path) -> None:
    _record(tmp_path / "in" / "a", ["I"], 50, rate=500)
    _record(tmp_path / "in" / "b", ["I"], 25, rate=250)
    _record(tmp_path / "in" / "c", ["I"], 30, unit="mm[Hg]", rate=500)
    cache = open_cache(built("--jobs", "1", tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"sampling rates of 250, 500 Hz; give rate="):
        WaveformDataset(cache.select(path=["a", "b"]), 5)
    with pytest.raises(ValueError, match=r"channel I is in mm\[Hg\], which is not made mV"):
        WaveformDataset(cache, 5, unit="mV", rate=250)
    one = cache.select(sampling_rate=500, path="a")
    assert WaveformDataset(one, seconds=0.02).length == 10


def test_a_rate_that_is_nearly_a_simple_one(tmp_path: Path) -> None:
    """499.99 Hz counts as 500; all samples are what they were."""
    _record(tmp_path / "in" / "a", ["I"], 50, rate=499.99)
    _record(tmp_path / "in" / "b", ["I"], 50, rate=500)
    cache = open_cache(built("--jobs", "1", tmp_path / "in", tmp_path / "cache"))
    near, exact = (WaveformDataset(cache, 50, rate=500)[k].signal for k in (0, 1))
    np.testing.assert_array_equal(near, exact)
    assert len(WaveformDataset(cache, 25, rate=250)) == 2
    ratios = {(499.99, 500): 1, (499.99, 250): "1/2", (360, 500): "25/18", (333.3333, 500): "3/2",
              (1000, 999.9): "9999/10000", (500, 499.8): "2499/2500"}  # fmt: skip
    for (rate, wanted), ratio in ratios.items():
        assert ratio_of(rate, wanted) == Fraction(ratio)
    for rate, wanted in ((500, 1e9), (1e-300, 500)):
        with pytest.raises(ValueError, match=r"no ratio of whole numbers up to 10000 is near"):
            ratio_of(rate, wanted)


@pytest.mark.parametrize("rate", [0.0, -500.0, float("inf"), float("nan")])
def test_a_rate_that_lies(tmp_path: Path, rate: float) -> None:
    _record(tmp_path / "in" / "a", ["I"], 50, rate=500)
    cache = built("--jobs", "1", tmp_path / "in", tmp_path / "cache")
    rewrite(cache, "frames", with_column("sampling_rate", [rate]))
    with pytest.raises(ValueError, match=r"sampling_rate of the cache .*; legal: a number of Hz"):
        WaveformDataset(open_cache(cache), 5, rate=250)


@pytest.mark.parametrize("rate", [250, 400, 1000, 333])
def test_a_window_at_another_rate_is_that_of_the_whole(tmp_path: Path, rate: int) -> None:
    data = np.random.default_rng(0).integers(-900, 900, (3000, 1)).astype("<i2")
    write_waveform(tmp_path / "in" / "a", [group(data, [channel("I", "1", "mV")])])
    cache = open_cache(built("--jobs", "1", tmp_path / "in", tmp_path / "cache"))
    windows = WaveformDataset(cache, 100, rate=rate)
    ratio = np.gcd(rate, 500)
    whole = resample_poly(data[:, 0].astype(float), rate // ratio, 500 // ratio, padtype="edge")
    assert windows.rate == rate
    assert len(windows) == -(-len(whole) // 100)
    found = torch.cat([one.signal[0] for one in windows])[: len(whole)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-3)


def test_a_gap_stays_a_gap_at_another_rate(tmp_path: Path) -> None:
    data = np.full((40, 1), 7, "<i2")
    data[10:20] = -1
    groups = [group(data, [channel("I", "1", "mV")], WaveformPaddingValue=("OW", b"\xff\xff"))]
    write_waveform(tmp_path / "in" / "a", groups)
    cache = open_cache(built("--jobs", "1", tmp_path / "in", tmp_path / "cache"))
    (signal,) = WaveformDataset(cache, 80, rate=1000)[0].signal
    lost = torch.isnan(signal)
    assert lost.nonzero().ravel().tolist() == list(range(19, 39))  # a half is of the later one
    np.testing.assert_allclose(signal[~lost].numpy(), 7, rtol=2e-2)
    filled = WaveformDataset(cache, 80, rate=1000, fill=0)[0].signal[0]
    assert (filled[lost] == 0).all()


def test_random_places_follow_from_seed_epoch_and_recording(path: Path) -> None:
    data = WaveformDataset(open_cache(path), 10, channels=["I"], unit="mV", at="random", seed=3)
    first = [one.start for one in (data[k] for k in range(len(data)))]
    assert len(first) == 3
    assert first[2] == 0  # shorter than a window
    assert all(0 <= start <= room for start, room in zip(first, [10, 15, 0], strict=True))
    again = pickle.loads(pickle.dumps(data))
    assert [again[k].start for k in range(3)] == first
    other = data.cache.select(path="a")
    alone = WaveformDataset(other, 10, channels=["I"], unit="mV", at="random", seed=3)
    assert alone[0].start == first[1]  # whatever else is there
    np.testing.assert_array_equal(alone[0].signal[0], first[1] + np.arange(10))
    drawn = set()
    for epoch in range(40):
        data.set_epoch(epoch)
        drawn.add(data[1].start)
    assert len(drawn) > 8


def test_labels_by_the_same_door(path: Path) -> None:
    table = {"PatientID": ["A", "B", "C"], "rhythm": ["sinus", "af", "sinus"]}
    data = WaveformDataset(
        open_cache(path), 10, channels=["I"], unit="mV", labels=table, on="PatientID",
        label="rhythm", columns=["sampling_rate"],
    )  # fmt: skip
    assert data.classes == ["af", "sinus"]
    assert data.class_counts == {"af": 1, "sinus": 2}
    batches = list(DataLoader(data, batch_size=4))
    assert torch.cat([b.label for b in batches]).tolist() == [0, 0, 1, 1, 1, 1]
    assert batches[0].signal.shape == (4, 1, 10)
    assert batches[0].columns["sampling_rate"].tolist() == [500.0] * 4
    assert "6 windows of 1 channel x 10 samples at 500 Hz" in repr(data)


def _starts(batches: Any) -> list[tuple[int, int]]:
    return [pair for b in batches for pair in zip(b.index.tolist(), b.start.tolist(), strict=True)]


def test_a_loader_goes_on_where_it_stopped(path: Path) -> None:
    data = WaveformDataset(open_cache(path), 4, channels=["I"], unit="mV")
    loader = WaveformLoader(data, 3, shuffle=True, seed=5)
    whole = _starts(loader)
    assert len(whole) == len(data) == 14
    assert sorted(whole) != whole
    begun = WaveformLoader(data, 3, shuffle=True, seed=5)
    batches = iter(begun)
    done = [next(batches), next(batches)]
    state = json.loads(json.dumps(begun.state_dict()))
    rest = WaveformLoader(data, 3, shuffle=True, seed=5)
    rest.load_state_dict(state)
    assert _starts([*done, *rest]) == whole
    assert _starts(rest) == _starts(loader) != whole  # the next epoch of both
    other = WaveformDataset(open_cache(path), 5, channels=["I"], unit="mV")
    of_others = WaveformLoader(other, 3, shuffle=True, seed=5)
    with pytest.raises(ValueError, match=r"another order: .*length 4, here 5"):
        of_others.load_state_dict(state)


def test_ranks_share_the_windows(path: Path) -> None:
    data = WaveformDataset(open_cache(path), 4, channels=["I"], unit="mV")
    parts = [
        _starts(WaveformLoader(data, 3, shuffle=True, seed=5, rank=k, ranks=2)) for k in range(2)
    ]
    assert len(parts[0]) == len(parts[1]) == 7
    assert len({*parts[0], *parts[1]}) == 14


def test_whatever_is_for_images_leaves_them_out(path: Path) -> None:
    cache = open_cache(path)
    assert len(FrameDataset(cache)) == 1
    with pytest.raises(ValueError, match=r"all of .* are waveforms: WaveformDataset"):
        FrameDataset(cache.select(kind="waveform"))
    assert [len(batch.index) for batch in CacheLoader(cache, threads=0)] == [1]
    assert cache.stacks()["kind"].to_pylist() == ["image"]
    with pytest.raises(ValueError, match=r"none of 1 frame of .* is a waveform"):
        WaveformDataset(cache.select(kind="image"), 10)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "give length, in samples, or seconds"),
        ({"length": 4, "seconds": 1.0}, "give length, in samples, or seconds"),
        ({"length": 0}, "length 0; legal: from 1"),
        ({"seconds": 0.0001}, "seconds 0.0001; legal: from one sample, 0.002 s"),
        ({"length": 4, "at": "middle"}, "at 'middle'; legal: grid, random, start"),
        ({"length": 4, "at": "start", "stride": 2}, "stride 2: only windows of a grid have one"),
        ({"length": 4, "rate": -1.0}, "rate -1.0; legal: above 0 Hz"),
        ({"length": 4, "lacking": "skip"}, "lacking 'skip'; legal: error, drop"),
        ({"length": 4, "unit": "kV"}, "channel I is in mV, which is not made kV"),
    ],
)
def test_what_is_not_legal(path: Path, said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        WaveformDataset(_only(path, "a"), **said)


def test_channels_of_odd_files() -> None:
    """A control character in a label, and a last recording that has no channels at all."""
    kind = pa.list_(pa.struct([(name, pa.string()) for name in ("label", "source", "unit")]))
    rows = [
        [{"label": "Lead II\x1f", "source": "MDC:2:2", "unit": "uV"}],
        [{"label": "II", "source": None, "unit": "mV"}],
        [],
    ]
    channels = Channels(pa.chunked_array([pa.array(rows, kind)]))
    picked = channels.picked(["II"], "mV", "drop")
    assert picked.kept.tolist() == [True, True, False]
    assert picked.factor[:2].tolist() == [[1e-3], [1.0]]
