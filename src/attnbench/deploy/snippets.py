"""The few lines of Python that predict on a JPEG with an exported file: its runtime, numpy and Pillow alone."""

from pathlib import Path

_READ = """\
side, picture = int(about["image_size"]), ImageOps.exif_transpose(Image.open("photo.jpg"))
picture = picture.convert(about["mode"]).resize((side, side), Image.Resampling.BILINEAR)
images = np.asarray(picture).reshape(1, side, side, -1).transpose(0, 3, 1, 2).copy()  # uint8 B C H W
"""
_TELL = """\
shares = np.exp(logits[0].astype(np.float64) - logits[0].max())
best = int(shares.argmax())
print(f"{json.loads(about['names'])[best]} {100 * shares[best] / shares.sum():.2f} %")
"""
_IMPORTS = "import json\n\nimport numpy as np\n{}\nfrom PIL import Image, ImageOps\n\n"
_OPEN = {
    "onnx": """\
net = onnxruntime.InferenceSession({file!r})
about = net.get_modelmeta().custom_metadata_map
""",
    "openvino": """\
model = openvino.Core().read_model({file!r})
about = {{name: value.value for name, value in model.get_rt_info()["attnbench"].items()}}
net = openvino.compile_model(model, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
""",
    "pt2": """\
extra = {{"attnbench.json": ""}}
net = torch.export.load({file!r}, extra_files=extra).module()
about = json.loads(extra["attnbench.json"])
""",
}
_CALL = {
    "onnx": 'logits = net.run(None, {"images": images})[0]\n',
    "openvino": "logits = net(images)[0]\n",
    "pt2": "with torch.inference_mode():\n    logits = net(torch.from_numpy(images)).numpy()\n",
}
_LIBRARY = {"onnx": "import onnxruntime", "openvino": "import openvino", "pt2": "import torch"}


def lines(to: str, file: Path) -> str:
    """A script that prints the most probable class of `photo.jpg`, read as `attnbench predict` reads it."""
    opened = _OPEN[to].format(file=str(file))
    return _IMPORTS.format(_LIBRARY[to]) + opened + _READ + _CALL[to] + _TELL
