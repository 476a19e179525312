"""What the knobs mean in numbers, and one clear line for what cannot be built."""

from dataclasses import replace

import pytest
import torch

from hrnet_core import HRNet, HRNetConfig

WRONG = [
    ({"width": 0}, "width: 0 is not a whole number from 1 on"),
    ({"width": "32"}, "width: '32' is not a whole number"),
    ({"streams": 7}, "streams: 7 is not a whole number from 1 to 6"),
    ({"streams": True}, "streams: True is not a whole number"),
    ({"widths": (32, 64)}, "widths: (32, 64) wants 4 numbers, one per stream"),
    ({"widths": (32, 64, 0, 8)}, "widths: 0 is not a whole number from 1 on"),
    ({"modules": (1, 4)}, "modules: (1, 4) wants a number for stages 2, 3, 4"),
    ({"modules": (1, 0, 3)}, "modules: 0 is not a whole number from 1 on"),
    ({"blocks": (4, 4)}, "blocks: (4, 4) wants one number, or one for each of stages (2, 3, 4)"),
    ({"blocks": 0}, "blocks: 0 is not a whole number from 1 on"),
    (
        {"fusions": "wihtin"},
        "fusions: 'wihtin' is not one of within, across, final, or a list of modules from 0 to 7; ",
    ),
    ({"fusions": "wihtin"}, "did you mean 'within'?"),
    ({"fusions": (8,)}, "fusions: 8 is not one of within, across, final, or a list of modules from 0 to 7"),
    ({"fusions": (1, 1)}, "fusions: (1, 1) names a module twice"),
    ({"fusions": 8}, "fusions: 8 is not one of within"),
    ({"routes": "ful"}, "routes: 'ful' is not one of full, neighbours, fine_to_coarse, coarse_to_fine; did you mean"),
    ({"operator": "sun"}, "did you mean 'sum'?"),
    ({"upsample": "bicubic"}, "upsample: 'bicubic' is not one of nearest, bilinear"),
    ({"downsample": "maxpool"}, "downsample: 'maxpool' is not one of strided_conv, bilinear"),
    ({"align_corners": True}, "align_corners: True needs upsample='bilinear' or downsample='bilinear'"),
    ({"stream_ratio": 1}, "stream_ratio: 1 is not a whole number from 2 to 4"),
    ({"stem_stride": 3}, "stem_stride: 3 is not one of 1, 2, 4"),
    ({"norm": "bach"}, "did you mean 'batch'?"),
    ({"norm_momentum": 2}, "norm_momentum: 2 is not between 0 and 1"),
    ({"checkpointing": "no"}, "checkpointing: 'no' is not True or False"),
]


@pytest.mark.parametrize(("knobs", "message"), WRONG)
def test_what_cannot_be_built_is_refused_in_one_line(knobs, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
        HRNetConfig(**knobs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("level", "fusions"), [("within", 8), ("across", 3), ("final", 1)])
def test_fusion_levels_count_as_in_the_paper(level, fusions):
    assert len(HRNetConfig(fusions=level).fusing) == fusions


def test_fusion_levels_are_where_the_paper_has_them():
    assert HRNetConfig(fusions="across").fusing == {0, 4, 7}  # last modules of stages 2, 3, 4
    assert HRNetConfig(fusions="final").fusing == {7}
    assert HRNetConfig(fusions=[1, 3, 5, 7]).fusing == {1, 3, 5, 7}
    assert not HRNetConfig(fusions=()).fusing


def test_lists_and_tuples_are_the_same_value():
    listed = HRNetConfig(modules=[1, 4, 3], fusions=[0, 7], widths=[8, 16, 32, 64])
    assert listed == HRNetConfig(modules=(1, 4, 3), fusions=(0, 7), widths=(8, 16, 32, 64))
    assert hash(listed) == hash(replace(listed))


@pytest.mark.parametrize("streams", range(1, 7))
def test_fewer_streams_keep_the_depth_and_more_open_in_further_stages(streams):
    config = HRNetConfig(streams=streams)
    assert config.stage_modules[:3] == (1, 4, 3)
    assert config.stage_streams[-1] == streams
    assert config.stage_streams == tuple(min(stage, streams) for stage in config.stages)
    assert config.min_size == 4 * 2 ** (streams - 1)


def test_all_streams_from_the_start():
    assert HRNetConfig(parallel_from_start=True).stage_streams == (4, 4, 4)


def test_an_image_below_the_minimum_is_refused_with_that_minimum():
    model = HRNet(HRNetConfig(width=4, streams=6, blocks=1, modules=(1, 1, 1)))
    with pytest.raises(ValueError, match=r"\(1, 3, 128, 127\) is not \(B, 3, H, W\) with H and W at least 128"):
        model(torch.zeros(1, 3, 128, 127))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        model(torch.zeros(1, 1, 128, 128))
