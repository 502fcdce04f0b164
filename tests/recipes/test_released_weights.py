"""Checkpoints of the published V-Net and L-Net, as their authors' programs write them: weights read, nothing run."""

from __future__ import annotations

import argparse
import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool3d

from napari_volumetric_smlm.cli import main
from napari_volumetric_smlm.domain.images import RawStack
from napari_volumetric_smlm.domain.volume_plans import VolumePlan
from napari_volumetric_smlm.engine.networks.vnet import Exposure
from napari_volumetric_smlm.engine.optics.views import light_field_instrument
from napari_volumetric_smlm.errors import ModelError
from napari_volumetric_smlm.io.examples import load_example
from napari_volumetric_smlm.io.models import read_model_weights
from napari_volumetric_smlm.recipes import finish
from napari_volumetric_smlm.recipes.released_weights import read_released
from napari_volumetric_smlm.recipes.split_views import cut_instrument
from napari_volumetric_smlm.recipes.trained import load_network
from napari_volumetric_smlm.recipes.volume import make_volume

PLANES, LEVELS, WIDTH, COPIES = 8, 3, 4, 2
MEAN, SD = 12.5, 40.0


class Half(nn.Module):
    """Two convolutions, each with what follows it, under the name that the released weights have."""

    def __init__(self, channels, width):
        super().__init__()
        layers = []
        for before in (channels, width):
            layers += [nn.Conv3d(before, width, 3, padding=1, bias=False), nn.LeakyReLU(), nn.BatchNorm3d(width)]
        self.block = nn.Sequential(*layers)


class Rise(nn.Module):
    """Up one level."""

    def __init__(self, below, width):
        super().__init__()
        self.up = nn.ConvTranspose3d(below, width, 2, stride=2, bias=False)
        self.conv_block = Half(2 * width, width)


class Inner(nn.Module):
    """The three-dimensional part; its input is repeated to equal channels."""

    def __init__(self):
        super().__init__()
        widths = [WIDTH * 2**k for k in range(LEVELS)]
        self.down_path = nn.ModuleList(Half(a, b) for a, b in zip([COPIES, *widths], widths, strict=False))
        self.up_path = nn.ModuleList(Rise(a, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.last = nn.Sequential(nn.Conv3d(WIDTH, 1, 1, bias=False), nn.ReLU())

    def forward(self, x):
        x, kept = x[:, None].repeat(1, COPIES, 1, 1, 1), []
        for k, down in enumerate(self.down_path):
            x = down.block(max_pool3d(x, 2) if k else x)
            kept.append(x)
        for rise, bridge in zip(self.up_path, kept[-2::-1], strict=True):
            x = rise.conv_block.block(torch.cat([rise.up(x), bridge], 1))
        return self.last(x)[:, 0]


@pytest.fixture(scope="module")
def published():
    """Return a small network of the published layers, its statistics as after a training."""
    torch.manual_seed(5)
    network = nn.Module()
    network.deconv = nn.Sequential(nn.Conv2d(3, PLANES, 3, padding=1, bias=False), nn.BatchNorm2d(PLANES), nn.LeakyReLU(), Inner())
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, 0.0, 0.3)
    nn.init.uniform_(network.deconv[3].last[0].weight, 0.1, 0.3)
    return network.eval()


def save(path, network, **more):
    content = {
        "epoch": 800,
        "args": argparse.Namespace(output_shape=[512, 512, PLANES], images_to_train=range(600), unet_settings={"depth": LEVELS}),
        "args_SLNet": "No argsSLNet",
        "statistics": {"norm_type": 1, "mean_imgs": torch.tensor(MEAN).half(), "std_images": torch.tensor(SD).half()},
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": torch.optim.Adam(network.parameters()).state_dict(),
        "loss": 0.1,
    }
    torch.save(content | more, path)
    return path


@pytest.fixture(scope="module")
def model(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    save(folder / "model_microtubule", published)
    assert main(["convert", str(folder / "model_microtubule"), "--output", str(folder / "vnet.safetensors")]) == 0
    return folder / "vnet.safetensors"


def test_every_layer_has_the_released_weights(model, published):
    network, card = load_network(str(model), None)
    assert (card.units["low_nm"], card.units["high_nm"], card.views) == (-260, 195, 3)
    views = torch.rand((1, 3, 16, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = published.deconv(views)
        found = network.eval().through(views)
    assert float(expected.std()) > 1e-3
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_views_are_put_to_the_network_as_its_authors_did(model, published):
    network, _ = load_network(str(model), None)
    frame = 300 * torch.rand((1, 3, 52, 52), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        halved = interpolate(frame, scale_factor=0.5, mode="bilinear", antialias=True)
        seen = interpolate(200 * halved / halved.max(), scale_factor=145 / 65, mode="bilinear")
        # 58 pixels are padded to 60, which three levels can halve
        expected = published.deconv(torch.nn.functional.pad((seen - MEAN) / SD, (0, 2, 0, 2)))[..., :58, :58]
        found = network.eval()(frame, Exposure(torch.ones(1), torch.ones(1)))
    back = interpolate(expected, size=(52, 52), mode="bilinear", antialias=True)
    assert np.corrcoef(found.flatten(), back.flatten())[0, 1] > 1 - 1e-9
    assert float(found.sum((2, 3)).mean()) == pytest.approx(float(frame.sum()), rel=1e-4)
    # gain and frames added up do not matter
    assert torch.allclose(network(7 * frame, Exposure(torch.ones(1), torch.ones(1))), 7 * found, rtol=1e-3, atol=1e-3)


def test_a_volume_comes_out_of_frames_whose_instrument_has_its_depths(model):
    shipped = load_example("light_field_3")
    array = shipped.microlenses.model_copy(update={"field_yx_px": (48, 48)})
    instrument = light_field_instrument(array, shipped.model_copy(update={"depth_range_nm": (-260.0, 195.0)}))
    cut = cut_instrument(instrument)
    counts = np.random.default_rng(0).poisson(300, (3, 1, 48, 48)).astype(np.uint16)
    stack = RawStack(counts_tyx=tuple(counts), kind="frames")
    volume = finish(make_volume(stack, cut, VolumePlan(model=str(model), device="cpu")))
    assert volume.values_zyx.shape == (PLANES, 48, 48)
    assert volume.voxel_zyx_nm == (65, 145, 145)
    with pytest.raises(ModelError, match=r"low_nm -260, the instrument .* has -2000"):
        finish(make_volume(stack, cut_instrument(light_field_instrument(array, shipped)), VolumePlan(model=str(model), device="cpu")))


FEATS = [1, 16, 32, 64, 128]


class Pair(nn.Module):
    """Two convolutions with their norms, under the names of the released L-Net."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv3d(channels, width, 3, padding=1, bias=False), nn.BatchNorm3d(width))
        self.conv2 = nn.Sequential(nn.Conv3d(width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width))

    def forward(self, x):
        return torch.relu(self.conv2(torch.relu(self.conv1(x))))


class Fine(nn.Module):
    """The released L-Net; its last level comes first on the way up."""

    def __init__(self):
        super().__init__()
        lower = range(1, len(FEATS) - 1)
        self.encoder = nn.ModuleList(Pair(a, b) for a, b in pairwise(FEATS))
        self.upconv = nn.ModuleList(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv3d(FEATS[k + 1], FEATS[k], 1)) for k in lower)
        self.decoder = nn.ModuleList(Pair(FEATS[k + 1], FEATS[k]) for k in lower)
        self.outconv = nn.Sequential(nn.Conv3d(FEATS[1], 1, 1), nn.ReLU())

    def forward(self, x):
        kept = [self.encoder[0](x)]
        for encoder in self.encoder[1:]:
            kept.append(encoder(max_pool3d(kept[-1], 2)))
        x = kept.pop()
        for k in range(len(self.decoder) - 1, -1, -1):
            x = self.decoder[k](torch.cat([kept[k], self.upconv[k](x)], 1))
        return self.outconv(x)


def test_a_released_lnet_answers_as_it_did(tmp_path):
    torch.manual_seed(6)
    fine = Fine()
    for layer in fine.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    nn.init.uniform_(fine.outconv[0].weight, 0.1, 0.3)
    fine.eval()
    flags = {"dim": 3, "use_cbam": False, "use_res": False}
    torch.save({"epoch": 340, "model": fine.state_dict(), "feats": FEATS, "scaler": {"scale": 1.0}, **flags}, tmp_path / "340.ckpt")
    assert main(["convert", str(tmp_path / "340.ckpt"), "--output", str(tmp_path / "lnet.safetensors")]) == 0
    network, card = load_network(str(tmp_path / "lnet.safetensors"), None)
    assert (card.kind, card.architecture["scale_zyx"]) == ("lnet4", [4, 4, 4])
    volume = torch.rand((1, 2, 4, 6), generator=torch.Generator().manual_seed(1))
    repeated = volume.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        expected = fine(repeated[:, None])[:, 0]
        found = network.eval()(volume)
    assert float(expected.std()) > 1e-3
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_that_would_run_something_is_refused_by_name_and_runs_nothing(published, tmp_path):
    path = save(tmp_path / "model_hostile", published, args=Hostile(tmp_path / "made"))
    with pytest.raises(ModelError, match=r"holds an object of the kind \w+\.mkdir; it was not opened"):
        read_released(path)
    assert not (tmp_path / "made").exists()


def test_other_checkpoints_are_told_apart(published, tmp_path, capsys):
    torch.save({"model": {}, "feats": [1, 16, 32], "epoch": 340}, tmp_path / "340.ckpt")
    assert main(["convert", str(tmp_path / "340.ckpt"), "--output", str(tmp_path / "l.safetensors")]) == 2
    assert "an L-Net with the channels [1, 16, 32]; the published ones have [1, 16, 32, 64, 128] or" in capsys.readouterr().err
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(ModelError, match="found weights; a checkpoint of the published V-Net with model_state_dict and statistics"):
        read_released(tmp_path / "other")
    state = published.state_dict() | {"decoder.weight": torch.zeros(2)}
    save(tmp_path / "more", published, model_state_dict=state)
    with pytest.raises(ModelError, match=r"'decoder\.weight' belong to no layer"):
        read_released(tmp_path / "more")
    save(tmp_path / "less", published, model_state_dict={k: v for k, v in published.state_dict().items() if "up_path.1" not in k})
    with pytest.raises(ModelError, match="Missing key"):
        read_released(tmp_path / "less")
    (tmp_path / "cut").write_bytes(save(tmp_path / "whole", published).read_bytes()[:3000])
    with pytest.raises(ModelError, match="damaged"):
        read_released(tmp_path / "cut")
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_model_is_written_without_a_pickle(model):
    arrays, card = read_model_weights(model)
    assert card["architecture"]["counts"] == [MEAN, SD]
    assert arrays["down.0.0.weight"].shape == (WIDTH, 1, 3, 3, 3)
