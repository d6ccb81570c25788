"""InceptionV3 against a plain functional copy of it on random weights, and its file's checks."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

import eval.judges.inception
from eval.judges.inception import inception_v3
from eval.judges.inception_network import InceptionV3
from eval.judges.judge import Judge

Weights = dict[str, Tensor]

STEM = """
Conv2d_1a_3x3 3>32 3x3, Conv2d_2a_3x3 32>32 3x3, Conv2d_2b_3x3 32>64 3x3, Conv2d_3b_1x1 64>80 1x1,
Conv2d_4a_3x3 80>192 3x3
"""
A = """
branch1x1 C>64 1x1, branch5x5_1 C>48 1x1, branch5x5_2 48>64 5x5, branch3x3dbl_1 C>64 1x1,
branch3x3dbl_2 64>96 3x3, branch3x3dbl_3 96>96 3x3, branch_pool C>P 1x1
"""
B = """
branch3x3 C>384 3x3, branch3x3dbl_1 C>64 1x1, branch3x3dbl_2 64>96 3x3, branch3x3dbl_3 96>96 3x3
"""
C = """
branch1x1 C>192 1x1, branch7x7_1 C>P 1x1, branch7x7_2 P>P 1x7, branch7x7_3 P>192 7x1,
branch7x7dbl_1 C>P 1x1, branch7x7dbl_2 P>P 7x1, branch7x7dbl_3 P>P 1x7, branch7x7dbl_4 P>P 7x1,
branch7x7dbl_5 P>192 1x7, branch_pool C>192 1x1
"""
D = """
branch3x3_1 C>192 1x1, branch3x3_2 192>320 3x3, branch7x7x3_1 C>192 1x1, branch7x7x3_2 192>192 1x7,
branch7x7x3_3 192>192 7x1, branch7x7x3_4 192>192 3x3
"""
E = """
branch1x1 C>320 1x1, branch3x3_1 C>384 1x1, branch3x3_2a 384>384 1x3, branch3x3_2b 384>384 3x1,
branch3x3dbl_1 C>448 1x1, branch3x3dbl_2 448>384 3x3, branch3x3dbl_3a 384>384 1x3,
branch3x3dbl_3b 384>384 3x1, branch_pool C>192 1x1
"""
BLOCKS = {  # convolutions, C channels in, P as in the convolutions
    "Mixed_5b": (A, 192, 32),
    "Mixed_5c": (A, 256, 64),
    "Mixed_5d": (A, 288, 64),
    "Mixed_6a": (B, 288, 0),
    "Mixed_6b": (C, 768, 128),
    "Mixed_6c": (C, 768, 160),
    "Mixed_6d": (C, 768, 160),
    "Mixed_6e": (C, 768, 192),
    "Mixed_7a": (D, 768, 0),
    "Mixed_7b": (E, 1280, 0),
    "Mixed_7c": (E, 2048, 0),
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Of the tensors of the published file, written down apart from the network."""
    convs = [("", STEM, 0, 0)] + [(f"{name}.", *block) for name, block in BLOCKS.items()]
    found: dict[str, tuple[int, ...]] = {}
    for prefix, text, channels, pool in convs:
        for name, c_in, c_out, high, wide in re.findall(r"(\w+) (\w+)>(\w+) (\d)x(\d)", text):
            sizes = {"C": channels, "P": pool}
            i, o = (sizes[c] if c in sizes else int(c) for c in (c_in, c_out))
            found[f"{prefix}{name}.conv.weight"] = (o, i, int(high), int(wide))
            for part in ("weight", "bias", "running_mean", "running_var"):
                found[f"{prefix}{name}.bn.{part}"] = (o,)
    return found | {"fc.weight": (1008, 2048), "fc.bias": (1008,)}


def constant(shape: tuple[int, ...]) -> Tensor:
    """Of one number in memory and on disk."""
    return torch.zeros(()).expand(shape)


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Random, of a size that keeps the activations' from block to block."""
    rng = torch.Generator().manual_seed(0)
    made = {}
    for name, shape in shapes().items():
        noise = torch.randn(shape, generator=rng)
        if name.endswith("conv.weight"):
            made[name] = noise * (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith("running_var"):
            made[name] = 0.5 + torch.rand(shape, generator=rng)
        else:
            made[name] = 0.1 * noise + float(name.endswith("bn.weight"))
    # So small that the epsilon beside it counts.
    made["Mixed_7a.branch3x3_1.bn.running_var"] *= 0.01
    return made


@pytest.fixture(scope="module")
def path(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def judge(path: Path) -> Judge:
    return inception_v3(path)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Wider than the network's input and less high, of levels between those of 8 bits."""
    return torch.rand(2, 3, 20, 320, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def embeddings(judge: Judge, images: Tensor) -> Tensor:
    return judge.embeddings(images)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Bilinear along the last axis: pixel centres at i + 1/2, edges repeated, no antialiasing."""
    length = image.shape[-1]
    at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    return image[..., low] * (1 - (at - low)) + image[..., high] * (at - low)


class Reference:
    """The network as plain functions of a dict of weights, which notes what it has read."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.read: set[str] = set()

    def get(self, name: str) -> Tensor:
        self.read.add(name)
        return self.weights[name]

    def conv(self, name: str, x: Tensor, stride: int = 1, valid: bool = False) -> Tensor:
        kernel = self.get(f"{name}.conv.weight")
        padding = (0, 0) if valid else (kernel.shape[2] // 2, kernel.shape[3] // 2)
        scale, shift, mean, variance = (
            self.get(f"{name}.bn.{part}")[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        y = F.conv2d(x, kernel, stride=stride, padding=padding)
        return ((y - mean) / (variance + 1e-3).sqrt() * scale + shift).clamp(min=0)

    def chain(self, block: str, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.conv(f"{block}.{name}", x)
        return x

    def average(self, x: Tensor) -> Tensor:
        # A sum over the window and a count of what is inside of the image.
        ones = torch.ones_like(x[:1, :1])
        window = torch.ones(1, 1, 3, 3)
        sums = F.conv2d(x.flatten(0, 1)[:, None], window, padding=1).view_as(x)
        return sums / F.conv2d(ones, window, padding=1)

    def reduced(self, x: Tensor) -> Tensor:
        return x.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(4, 5))

    def embeddings(self, images: np.ndarray) -> Tensor:
        levels = np.floor(images.astype(np.float64) * 255 + 0.5) / 255
        square = resized(resized(levels, 299).swapaxes(2, 3), 299).swapaxes(2, 3)
        x = torch.from_numpy(square * 2 - 1).float()
        x = self.conv("Conv2d_1a_3x3", x, stride=2, valid=True)
        x = self.conv("Conv2d_2a_3x3", x, valid=True)
        x = self.reduced(self.conv("Conv2d_2b_3x3", x))
        x = self.conv("Conv2d_3b_1x1", x)
        x = self.reduced(self.conv("Conv2d_4a_3x3", x, valid=True))
        assert x.shape[1:] == (192, 35, 35)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            one = self.chain(name, x, "branch1x1")
            five = self.chain(name, x, "branch5x5_1", "branch5x5_2")
            three = self.chain(name, x, *(f"branch3x3dbl_{i}" for i in (1, 2, 3)))
            pool = self.chain(name, self.average(x), "branch_pool")
            x = torch.cat([one, five, three, pool], dim=1)
        three = self.conv("Mixed_6a.branch3x3", x, stride=2, valid=True)
        double = self.chain("Mixed_6a", x, "branch3x3dbl_1", "branch3x3dbl_2")
        double = self.conv("Mixed_6a.branch3x3dbl_3", double, stride=2, valid=True)
        x = torch.cat([three, double, self.reduced(x)], dim=1)
        assert x.shape[1:] == (768, 17, 17)
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            one = self.chain(name, x, "branch1x1")
            seven = self.chain(name, x, *(f"branch7x7_{i}" for i in (1, 2, 3)))
            double = self.chain(name, x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)))
            pool = self.chain(name, self.average(x), "branch_pool")
            x = torch.cat([one, seven, double, pool], dim=1)
        three = self.chain("Mixed_7a", x, "branch3x3_1")
        three = self.conv("Mixed_7a.branch3x3_2", three, stride=2, valid=True)
        seven = self.chain("Mixed_7a", x, *(f"branch7x7x3_{i}" for i in (1, 2, 3)))
        seven = self.conv("Mixed_7a.branch7x7x3_4", seven, stride=2, valid=True)
        x = torch.cat([three, seven, self.reduced(x)], dim=1)
        assert x.shape[1:] == (1280, 8, 8)
        for name in ("Mixed_7b", "Mixed_7c"):
            last = name == "Mixed_7c"
            one = self.chain(name, x, "branch1x1")
            three = self.chain(name, x, "branch3x3_1")
            double = self.chain(name, x, "branch3x3dbl_1", "branch3x3dbl_2")
            forks = [
                self.chain(name, y, branch)
                for y, branches in (
                    (three, ("branch3x3_2a", "branch3x3_2b")),
                    (double, ("branch3x3dbl_3a", "branch3x3dbl_3b")),
                )
                for branch in branches
            ]
            padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
            largest = padded.unfold(2, 3, 1).unfold(3, 3, 1).amax(dim=(4, 5))
            pool = self.chain(name, largest if last else self.average(x), "branch_pool")
            x = torch.cat([one, *forks, pool], dim=1)
        return x.flatten(2).mean(dim=2)


def test_shapes_are_those_of_the_published_network():
    network = {
        name: tuple(tensor.shape)
        for name, tensor in InceptionV3().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert network == shapes()
    assert len([name for name in network if name.endswith("conv.weight")]) == 94
    # Keras documents 23,851,784 for 1000 classes without the normalisations' scales. These are
    # half as many as its 34,432 running means and variances; 8 more classes have 2,049 each.
    count = sum(int(np.prod(shape)) for shape in network.values())
    assert count == 23_851_784 + 34_432 // 2 + 8 * 2049 == 23_885_392


def test_features_are_those_of_a_plain_copy(weights, images, embeddings):
    reference = Reference(weights)
    expected = reference.embeddings(images.numpy())
    assert embeddings.shape == (2, 2048)
    assert embeddings.dtype == torch.float32
    assert expected.std() > 0.1 and (expected[0] - expected[1]).abs().mean() > 1e-3
    torch.testing.assert_close(embeddings, expected, rtol=1e-3, atol=1e-4)
    assert reference.read == weights.keys() - {"fc.weight", "fc.bias"}


def test_images_are_rounded_to_8_bits(judge, images, embeddings):
    levels = (images[:1] * 255).round() / 255
    assert not torch.equal(levels, images[:1])
    # One image alone, which also shows that it does not see its batch mate.
    torch.testing.assert_close(judge.embeddings(levels), embeddings[:1], rtol=1e-4, atol=1e-4)


def test_grey_equals_replicated_colour(judge):
    grey = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    colour = grey.expand(-1, 3, -1, -1)
    torch.testing.assert_close(
        judge.embeddings(grey), judge.embeddings(colour), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        judge.embeddings(torch.zeros(1, 4, 28, 28))


def test_logits_are_the_last_layers(judge, weights, embeddings):
    network = judge.network
    assert isinstance(network, InceptionV3)
    products = embeddings.double() @ weights["fc.weight"].double().T
    for bias in (True, False):
        logits = network.logits(embeddings, bias)
        assert logits.shape == (2, 1008)
        expected = products + weights["fc.bias"] * bias
        torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-4)
    # Those of the Inception Score are without the bias.
    chances = judge.probabilities(embeddings).double()
    torch.testing.assert_close(chances, products.softmax(dim=1), rtol=1e-3, atol=1e-6)


def test_averages_leave_the_padding_out(judge):
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = [
        [x[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean() for j in range(4)] for i in range(5)
    ]
    averages = [
        name
        for name, module in judge.network.named_modules()
        if isinstance(module, torch.nn.AvgPool2d)
    ]
    assert averages == [f"{name}.pool" for name in BLOCKS if name[-2:] not in ("6a", "7a", "7c")]
    for name in averages:
        pooled = judge.network.get_submodule(name)(torch.from_numpy(x)[None, None])
        np.testing.assert_allclose(pooled[0, 0].numpy(), expected, rtol=1e-5)


def test_the_network_is_frozen(judge):
    assert not any(module.training for module in judge.network.modules())
    assert not any(parameter.requires_grad for parameter in judge.network.parameters())


def test_the_name_is_for_the_published_file_alone(judge, path, monkeypatch):
    digest = eval.judges.inception.sha256(path)
    assert judge.name == f"inception-v3@{digest[:8]}"
    monkeypatch.setattr(eval.judges.inception, "WEIGHTS_SHA256", digest)
    assert inception_v3(path).name == "inception-v3"


def test_safetensors_and_counters_of_batches_are_taken(weights, judge, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(weights | {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(7)}, path)
    converted = inception_v3(str(path), batch_size=3)
    assert converted.batch_size == 3
    assert converted.name != judge.name
    assert isinstance(converted.network, InceptionV3)
    loaded = converted.network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_a_missing_file_names_where_it_is(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.pth is no file; .*https://github\.com/mseitzer"):
        inception_v3(tmp_path / "absent.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>Not Found</html>", b"PK\x03\x04 and no more"])
def test_a_damaged_file_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as weights"):
        inception_v3(path)


def test_a_truncated_file_is_refused(tmp_path, path):
    truncated = tmp_path / "weights.pth"
    truncated.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(ValueError, match="cannot be read as weights"):
        inception_v3(truncated)


def test_code_in_a_file_does_not_run(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(InceptionV3, path)
    with pytest.raises(ValueError, match="cannot be read as weights"):
        inception_v3(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, r"the 472 tensors .*: 1 missing \(fc\.bias\); they are at https"),
        (
            {"fc.weight": (1000, 2048), "fc.bias": (1000,)},
            r"2 of another shape \(fc\.weight \(1000, 2048\) for \(1008, 2048\), fc\.bias",
        ),
        ({"AuxLogits.fc.bias": (1000,)}, r": 1 unknown \(AuxLogits\.fc\.bias\)"),
        (
            {"fc.bias": None, "fc.weight": (8, 2048)},
            r"1 missing \(fc\.bias\); 1 of another shape \(fc\.weight",
        ),
    ],
)
def test_tensors_of_another_network_are_named(tmp_path, change, message):
    path = tmp_path / "weights.pth"
    changed = {name: shape for name, shape in (shapes() | change).items() if shape is not None}
    torch.save({name: constant(shape) for name, shape in changed.items()}, path)
    with pytest.raises(ValueError, match=message):
        inception_v3(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"state_dict": {"fc.bias": torch.zeros(1)}}])
def test_what_holds_no_tensors_by_name_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="expected tensors by name"):
        inception_v3(path)


def test_batch_size_is_checked(path):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        inception_v3(path, batch_size=0)
