"""Bottleneck attention: equations 1-4 of Park et al. 2018 (arXiv 1807.06514)."""

from equations.numeric import Array, batch_norm, conv, relu, sigmoid

CASES = ["bam", 'bam(variant="official")', "bam(reduction=4, dilation=2)"]


def written(w: dict[str, Array], x: Array, dilation: int, variant: str, **_: object) -> Array:
    def layer(z: Array, name: str, dilation: int = 1) -> Array:
        return conv(z, w[f"{name}.weight"], w[f"{name}.bias"], dilation=dilation)

    m_c = layer(x.mean((2, 3), keepdims=True), "channel.0")  # eq. 3
    m_c = layer(relu(batch_norm(m_c, w, "channel.1")), "channel.3")
    m_s = relu(batch_norm(layer(x, "spatial.0"), w, "spatial.1"))  # eq. 4
    m_s = relu(batch_norm(layer(m_s, "spatial.3", dilation), w, "spatial.4"))
    m_s = relu(batch_norm(layer(m_s, "spatial.6", dilation), w, "spatial.7"))
    m_s = layer(m_s, "spatial.9")
    if variant == "paper":
        m = sigmoid(batch_norm(m_c, w, "channel.4") + batch_norm(m_s, w, "spatial.10"))  # eq. 2
    else:
        m = sigmoid(m_c * m_s)
    return x + x * m  # eq. 1
