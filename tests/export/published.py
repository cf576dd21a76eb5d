"""State dicts of the paper's networks, and what these predict, by the published tables alone (reference 3.1, 3.2)."""

import torch
from torch.nn import functional as F

BLOCKS = ("conv0", "conv1", "conv2", "conv3", "center", "conv4", "conv5", "conv6", "conv7")


def residual_shapes(filters=(28, 36, 48, 64, 80), outputs=3, merge="cat", upsampling="transposeS"):
    """Name and shape of each entry, in the order of the table of operations."""
    shapes = {}

    def conv(name, a, b, kernel, bias=True):
        shapes[f"{name}.weight"] = (b, a, *kernel)
        if bias:
            shapes[f"{name}.bias"] = (b,)

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def residual(name, a, b):
        conv(f"{name}.block1.0", a, b, (1, 3, 3), bias=False)
        norm(f"{name}.block1.1", b)
        conv(f"{name}.block2.0", b, b, (3, 3, 3), bias=False)
        norm(f"{name}.block2.1", b)
        conv(f"{name}.block2.3", b, b, (3, 3, 3), bias=False)
        norm(f"{name}.block3", b)

    conv("embed_in.0", 1, filters[0], (1, 5, 5))
    for block, a, b in zip(BLOCKS, (filters[0], *filters), filters, strict=False):
        residual(block, a, b)
    for k, (a, b) in enumerate(zip(filters[:0:-1], filters[-2::-1], strict=True)):
        if upsampling == "transposeS":
            shapes[f"up{k}.0.weight"] = (a, 1, 1, 2, 2)
            shapes[f"up{k}.0.bias"] = (a,)
        conv(f"up{k}.1", a, b, (1, 1, 1))
        merged = 2 * b if merge == "cat" else b
        norm(f"cat{k}.0", merged)
        residual(f"conv{4 + k}", merged, b)
    conv("embed_out.0", filters[0], filters[0], (1, 5, 5))
    conv("out_put.0", filters[0], outputs, (1, 1, 1))
    return shapes


def mala_shapes(features=12, growth=5, depth=3, outputs=3):
    """Shape of each entry in the order of layers; their names are made up, as the description has none."""
    widths = [features * growth**level for level in range(depth + 1)]
    shapes = {}

    def conv(a, b, kernel=(3, 3, 3)):
        name = f"layer{len(shapes)}"
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (b, a, *kernel), (b,)

    def pair(a, b):
        conv(a, b)
        conv(b, b)

    for a, b in zip((1, *widths), widths, strict=False):
        pair(a, b)
    for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True):
        shapes[f"layer{len(shapes)}.weight"] = (a, 1, 1, 3, 3)
        conv(a, b, (1, 1, 1))
        pair(2 * b, b)
    conv(features, outputs, (1, 1, 1))
    return shapes


def random_state(shapes, seed=0):
    """Random entries, of sizes that keep activations near 1."""
    draws = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if not shape:
            state[name] = torch.tensor(1000)
        elif len(shape) == 5:
            state[name] = torch.randn(shape, generator=draws) * (2 / (shape[1] * shape[2] * shape[3] * shape[4])) ** 0.5
        else:
            positive = name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1)
            state[name] = torch.rand(shape, generator=draws) * 0.5 + (0.75 if positive else -0.25)
    return state


def write(path, state, *, module=False, step=300_000, zipped=False):
    """A file of the published layout, by default in the form that torch 1.0 wrote."""
    weights = {f"module.{name}" if module else name: tensor for name, tensor in state.items()}
    content = {"current_iter": step, "valid_result": None, "model_weights": weights}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def residual_output(state, raw, *, merge="cat", upsampling="transposeS", pad_mode="zero", relu=F.elu):
    """What the residual U-Net of the table gives, its sigmoid included, in evaluation mode."""

    def conv(x, name):
        weight = state[f"{name}.weight"]
        around = [n for size in reversed(weight.shape[2:]) for n in (size // 2, size // 2)]
        x = F.pad(x, around, mode="constant" if pad_mode == "zero" else "replicate")
        return F.conv3d(x, weight, state.get(f"{name}.bias"))

    def norm(x, name):
        mean, var, gain, shift = (
            state[f"{name}.{part}"][:, None, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * gain + shift

    def residual(x, name):
        r = relu(norm(conv(x, f"{name}.block1.0"), f"{name}.block1.1"))
        x = relu(norm(conv(r, f"{name}.block2.0"), f"{name}.block2.1"))
        return relu(norm(r + conv(x, f"{name}.block2.3"), f"{name}.block3"))

    def up(x, name):
        if upsampling == "transposeS":
            weight = state[f"{name}.0.weight"]
            x = F.conv_transpose3d(x, weight, state[f"{name}.0.bias"], stride=(1, 2, 2), groups=weight.shape[0])
        elif upsampling == "bilinear":
            x = F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=True)
        else:
            x = F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")
        return conv(x, f"{name}.1")

    x = relu(conv(raw, "embed_in.0"))
    maps = []
    for level in range(4):
        maps.append(residual(x, f"conv{level}"))
        x = F.max_pool3d(maps[-1], (1, 2, 2))
    x = residual(x, "center")
    for k in range(4):
        x, skip = up(x, f"up{k}"), maps[3 - k]
        if merge == "cat":
            x = torch.cat([x, skip], 1)
        elif merge == "add":
            x = x + skip
        x = residual(relu(norm(x, f"cat{k}.0")), f"conv{4 + k}")
    return torch.sigmoid(conv(relu(conv(x, "embed_out.0")), "out_put.0"))


def mala_output(state, raw, depth=3):
    """What MALA of the table gives, its sigmoid included; layers are taken from the state dict one after the other."""
    tensors = iter(state.values())

    def conv(x):
        return F.conv3d(x, next(tensors), next(tensors))

    def pair(x):
        return F.leaky_relu(conv(F.leaky_relu(conv(x), 0.005)), 0.005)

    maps, x = [], raw
    for _ in range(depth):
        maps.append(pair(x))
        x = F.max_pool3d(maps[-1], (1, 3, 3))
    x = pair(x)
    for skip in reversed(maps):
        weight = next(tensors)
        x = conv(F.conv_transpose3d(x, weight, stride=(1, 3, 3), groups=weight.shape[0]))
        z, y, x_ = ((n - m) // 2 for n, m in zip(skip.shape[2:], x.shape[2:], strict=True))
        middle = skip[:, :, z : z + x.shape[2], y : y + x.shape[3], x_ : x_ + x.shape[4]]
        x = pair(torch.cat([x, middle], 1))
    return torch.sigmoid(conv(x))
