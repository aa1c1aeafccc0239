"""Are the networks written straight from the equations the same functions as ours?

    python benchmarks/naive.py

Every T-size model of the paper as one would write it from the papers, without a thought for export:
tokens [B, N, C] throughout, one packed projection that is cut into q, k and v, each cut into
windows and heads on its own, biases and masks looked up and added in forward. Nothing of our
backbones is imported; the parameters have the same names, so that our weights load as they are. Run
as a script it compares the logits; `graph_forms.py` and `families.py` export it beside ours.

The CSWin backbone is here, its attentions in `naive_attention.py`, and the other families in
`naive_swin.py`, `naive_conv.py` and `naive_vmamba.py`.
"""

import functools
import io
import warnings

import _common
import naive_conv
import naive_swin
import naive_vmamba
import torch
from naive_attention import MLP, Agent, Focused, Global, Linear, Windowed
from torch import nn

CLASSES, SIZE = 1000, 224
STRIPES, AGENTS = (1, 2, 7, 7), (9, 16, 49, 49)
ATTENTIONS = ("elfatt", "global", "effatt", "local", "flatten", "agent")
#: variants of the CSWin backbone: channels, depths, heads, side of the blocks of ELFATT
CSWIN_T = (64, (2, 4, 18, 1), (2, 4, 8, 16), (7, 7, 14, 7))
SWIN_T = (96, (2, 2, 6, 2), (3, 6, 12, 24), (14, 14, 14, 7))
#: what the model itself computes, and a state_dict may leave out
STRUCTURAL = ("relative_position_index", "attn_mask", "num_batches_tracked")


def branches_of(attention, level, index, channels, heads, side, block):
    """Return the branches of block `index` (from 0) of `level` (from 0)."""
    linear = attention in ("elfatt", "effatt")
    if attention == "global" or level == 3 or (linear and level == 2 and index % 2 == 0):
        return [Global(channels, heads, side)]
    if attention == "effatt":
        return [Linear(channels, heads, side)]
    if attention == "flatten" and level < 2:
        return [Focused(channels, heads, side, lepe=True)]
    if attention == "agent" and level < 2:
        return [Agent(channels, heads, side, AGENTS[level], conv="get_v")]
    half = (channels // 2, heads // 2, side)
    if attention == "elfatt":
        return [Linear(*half), Windowed(*half, block, block)]
    return [Windowed(*half, side, STRIPES[level]), Windowed(*half, STRIPES[level], side)]


class Block(nn.Module):
    """X1 = X + proj(A(LN(X))), X2 = X1 + MLP(LN(X1))."""

    def __init__(self, dim, branches):
        super().__init__()
        self.dim = dim
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attns, self.mlp = nn.ModuleList(branches), MLP(dim)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N, C]."""
        qkv = self.qkv(self.norm1(x))
        q, k, v = (qkv[..., i * self.dim : (i + 1) * self.dim] for i in range(3))
        if len(self.attns) == 1:
            out = self.attns[0](q, k, v)
        else:
            half = self.dim // 2
            first = self.attns[0](q[..., :half], k[..., :half], v[..., :half])
            second = self.attns[1](q[..., half:], k[..., half:], v[..., half:])
            out = torch.cat((first, second), dim=-1)
        x = x + self.proj(out)
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    """An image [B, C, H, W] as tokens [B, N, C]."""

    def forward(self, image):
        """Flatten the map."""
        return image.flatten(2).transpose(1, 2)


class Merge(nn.Module):
    """Conv 3x3 stride 2 to twice the channels, then LayerNorm."""

    def __init__(self, dim, side):
        super().__init__()
        self.side = side
        self.conv = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N/4, 2C]."""
        B, _, C = x.shape
        image = self.conv(x.transpose(1, 2).reshape(B, C, self.side, self.side))
        return self.norm(image.flatten(2).transpose(1, 2))


class NaiveCSWin(nn.Module):
    """The CSWin backbone at 224 x 224 with one of the attentions."""

    def __init__(self, attention, variant=CSWIN_T):
        super().__init__()
        dim, depths, heads, blocks = variant
        side = SIZE // 4
        self.stage1_conv_embed = nn.Sequential(
            nn.Conv2d(3, dim, 7, stride=4, padding=2), Tokens(), nn.LayerNorm(dim)
        )
        for level, depth in enumerate(depths):
            place = (dim, heads[level], side, blocks[level])
            stage = [
                Block(dim, branches_of(attention, level, index, *place)) for index in range(depth)
            ]
            self.add_module(f"stage{level + 1}", nn.Sequential(*stage))
            if level < 3:
                self.add_module(f"merge{level + 1}", Merge(dim, side))
                dim, side = 2 * dim, side // 2
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, CLASSES)

    def forward(self, images):
        """Classify images [B, 3, 224, 224]."""
        x = self.stage1_conv_embed(images)
        x = self.merge1(self.stage1(x))
        x = self.merge2(self.stage2(x))
        x = self.merge3(self.stage3(x))
        return self.head(self.norm(self.stage4(x)).mean(1))


#: model name -> what makes its naive network
NETS = {
    **{f"cswin_t_{name}": functools.partial(NaiveCSWin, name) for name in ATTENTIONS},
    "swin_t_elfatt": functools.partial(NaiveCSWin, "elfatt", SWIN_T),
    **{
        f"swin_t_{name}": functools.partial(naive_swin.NaiveSwin, name)
        for name in naive_swin.ATTENTIONS
    },
    "efficientvit_b2": naive_conv.NaiveEfficientViT,
    "convnext_t": naive_conv.NaiveConvNeXt,
    "vmamba_t": naive_vmamba.NaiveVMamba,
}


def our_model(name):
    """Return (our model, "") or, where the package has none of that name, (None, why)."""
    from elfatt_deploy.errors import ElfattDeployError

    try:
        return _common.our_model(name, SIZE), ""
    except ElfattDeployError as error:
        return None, error.message.replace("|", "/")


def build(model, attention):
    """Return the naive CSWin-T of an attention with the weights of our model."""
    return loaded(f"cswin_t_{attention}", model)


def loaded(name, model):
    """Return the naive network of a model name with the weights of our model."""
    net = NETS[name]()
    missing, extra = net.load_state_dict(model.state_dict(), strict=False)
    wrong = [key for key in (*missing, *extra) if key.rsplit(".", 1)[-1] not in STRUCTURAL]
    if wrong:
        raise SystemExit(f"{name}: the keys of the naive network and ours differ: {wrong[:5]}")
    return net.eval()


def exported(net, images, opset=17):
    """Return the bytes that plain torch.onnx.export writes, without any simplifier."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.from_numpy(images),),
            buffer,
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            dynamo=False,
        )
    return buffer.getvalue()


def main():
    """Compare the logits of every model at two batch sizes."""
    _common.table(
        "Largest difference of the logits, naive and ours in torch, weights of seed 0",
        ("model", "batch 1", "batch 3"),
        (_differences(name) for name in NETS),
    )


def _differences(name):
    model, reason = our_model(name)
    if model is None:
        return (name, reason, "")
    net = loaded(name, model)
    row = [name]
    for batch in (1, 3):
        images = _common.noise(batch, SIZE)
        pair = (_common.torch_logits(m, images) for m in (net, model))
        row.append(f"{_common.checked(name, *pair):.1e}")
    return row


if __name__ == "__main__":
    main()
