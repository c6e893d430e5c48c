"""A gate that is the same for every image, folded into the norm or convolution beside it: the plain network again."""

import copy

import torch
from torch import Tensor, nn

from attnbench.errors import BadReference
from attnbench.networks.anywhere import ungraft
from attnbench.networks.grafted import Grafted


def folded(model: nn.Module) -> nn.Module:
    """The plain network that computes what a network does whose mechanisms multiply each channel by a constant.

    The constant goes into weight and bias of the norm or convolution that the mechanism stands behind, or into the
    weights with which the convolution that it stands before reads the channel. `model` stays as it is.

    Args:
        model: in evaluation mode, its gates fixed; that they are, the caller shows by comparing the logits.

    Raises:
        BadReference: a mechanism that has several values a channel, or no norm or convolution to go into.
    """
    sites = {path: module for path, module in model.named_modules() if isinstance(module, Grafted)}
    scales = {path: _scales(path, site) for path, site in sites.items()}
    plain = copy.deepcopy(model)
    with torch.no_grad():
        for path, scale in scales.items():
            site = plain.get_submodule(path)
            assert isinstance(site, Grafted)
            _scale(_host(path, site), scale, site.plain == 1)
    return ungraft(plain)


def _scales(path: str, site: Grafted) -> Tensor:
    """What a mechanism multiplies each channel by: float64 C."""
    host = _host(path, site)
    channels = host.in_channels if isinstance(host, nn.Conv2d) and site.plain == 1 else len(_weight(host))
    mechanism, ones = site[1 - (site.plain or 0)], torch.ones_like(_weight(host)[:1].reshape(-1)[:1])
    with torch.no_grad():
        found: Tensor = mechanism(ones.expand(1, channels).reshape(1, channels, 1, 1))
    if found.shape != (1, channels, 1, 1):
        shape = "x".join(map(str, found.shape[1:]))
        raise BadReference(
            f"{path}: the gate has the shape {shape}, not one value a channel, so that it cannot be folded"
        )
    return found.double().flatten()


def _host(path: str, site: Grafted) -> nn.Module:
    """The norm or convolution that a mechanism stands behind, or the convolution that it stands before."""
    host = site.original
    while isinstance(host, nn.Sequential) and site.plain == 0 and len(host):
        host = host[-1]
    norm = "Norm" in type(host).__name__ and getattr(host, "weight", None) is not None and _weight(host).dim() == 1
    if site.plain is None or not (isinstance(host, nn.Conv2d) or (norm and site.plain == 0)):
        where = {0: "behind", 1: "before", None: "instead of"}[site.plain]
        raise BadReference(
            f"{path}: the gate stands {where} a {type(host).__name__}, and folds into the weights of a norm or "
            "convolution before it (site block of most backbones), or of a convolution behind it"
        )
    return host


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _scale(layer: nn.Module, scale: Tensor, of_input: bool) -> None:
    """Multiply what a layer gives, or what it reads, by one value a channel, in place."""
    weight = _weight(layer)
    if of_input:
        assert isinstance(layer, nn.Conv2d)
        read = scale.reshape(layer.groups, -1).repeat_interleave(layer.out_channels // layer.groups, 0)  # O I/groups
        weight.copy_(weight.double() * read[:, :, None, None])
        return
    weight.copy_(weight.double() * scale.reshape(-1, *[1] * (weight.dim() - 1)))
    if isinstance(layer.bias, Tensor):
        layer.bias.copy_(layer.bias.double() * scale)
