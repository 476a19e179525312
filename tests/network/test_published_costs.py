"""Every published figure: ours is within one per cent, or the row says why it is not, and says it truly."""

import pytest

from ablate.errors import PartError
from ablate.network.published_costs import Blueprint, Compared, build, compare, tables

ROUNDS = "ours rounds to the printed figure"


def name(row) -> str:
    return f"{row.source.rpartition('/')[2]}-{row.row}-{row.size[0]}"


@pytest.fixture(scope="module")
def compared() -> list[Compared]:
    return list(compare(tables()))


ROWS = tables().rows


@pytest.mark.parametrize("place", range(len(ROWS)), ids=lambda place: name(ROWS[place]))
def test_a_row_agrees_or_says_why_not(compared, place):
    found = compared[place]
    assert found.agrees == (not found.published.reason), (found.gaps, found.published.reason)


def digits(figure: float) -> int:
    return len(repr(figure).partition(".")[2])


def test_where_rounding_is_the_reason_ours_rounds_to_the_figure(compared):
    rows = [found for found in compared if found.published.reason == ROUNDS]
    assert rows
    for found in rows:
        printed = found.published
        for ours, theirs in ((found.params_M, printed.params_M), (found.gflops, printed.gflops)):
            assert round(ours, digits(theirs)) == theirs or abs(ours / theirs - 1) <= 0.01


def test_the_tables_are_all_there():
    """Rows with parameters or GFLOPs, by the numbers of lines that the sources have."""
    lines = {}
    for row in ROWS:
        lines[row.source] = lines.get(row.source, 0) + 1
    assert lines["arXiv 1902.09212, Table 1; arXiv 1908.07919, Table I"] == 12
    assert lines["arXiv 1902.09212, Table 4"] == 6
    assert lines["arXiv 1908.07919, Table III"] == 8
    assert lines["arXiv 1908.07919, Table XV"] == 12
    assert lines["arXiv 1908.07919, Table XVI"] == 9
    assert all(row.params_M or row.gflops for row in ROWS)


def test_every_network_is_spoken_of_and_known():
    found = tables()
    assert {row.network for row in found.rows} - {None} == set(found.networks)


def test_counts_known_from_the_official_code(compared):
    """Multiply-adds / 2**30 of the official code counted with the official tool, where the papers print others."""
    known = {
        ("pose_sb_r50", (256, 192)): 8.991, ("pose_sb_r50", (384, 288)): 20.23, ("pose_sb_r152", (384, 288)): 35.47,
        ("seg_hrnet_w40", (1024, 2048)): 498.674, ("seg_hrnet_w48_lip", (473, 473)): 75.982,
        ("seg_hrnet_w48_context", (480, 480)): 76.87, ("seg_hrnet_w48_ocr", (1024, 2048)): 1206.369,
    }  # fmt: skip
    counts = {(found.published.network, found.published.size): found.cost for found in compared}
    for key, gflops in known.items():
        assert counts[key].tool_gflops == pytest.approx(gflops, rel=1e-3)
    # 5.426 GMACs (10^9) where transposed convolutions are counted by their input
    assert counts["pose_sb_r50", (256, 192)].macs / 1e9 == pytest.approx(5.426, rel=1e-3)


def test_a_network_of_an_unknown_part_is_one_line():
    with pytest.raises(PartError, match="did you mean 'hrnet'"):
        build(Blueprint.model_validate({"task": "pose", "outputs": 17, "model": "hrnett"}))
