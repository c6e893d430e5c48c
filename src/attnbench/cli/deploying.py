"""Verbs on what runs elsewhere: export; and the part of profile that runs elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from attnbench.catalogue.registry import ATTENTION, BACKBONES
from attnbench.cli.flags import CodeFlag, DataFlag, StoreFlag
from attnbench.cli.reading import runtime_of
from attnbench.errors import AttnbenchError, writing
from attnbench.examine.bench import BenchSettings

if TYPE_CHECKING:
    from attnbench.deploy.latency import Asked


def export(
    run: Positional[str],
    to: str,
    output: Path | None = None,
    int8: bool = False,
    store: StoreFlag = None,
    data_dir: DataFlag = None,
    code: CodeFlag = (),
) -> int:
    """Write a trained run as one file for another program: normalisation inside, uint8 images B C H W in, logits out.

    The file is there when it computes what the run computes; a few lines that predict with it on a JPEG are printed.

    Args:
        run: An id, the beginning of one, or a run's folder.
        to: onnx, pt2 (torch.export) or openvino.
        output: The file (default: the run's id in this folder).
        int8: Quantise it on training images of the run, and say what that costs on its test images.
    """
    from attnbench.deploy.shipping import export as exported

    found = exported(run, to, output, runtime_of(store=store, data_dir=data_dir), int8, code)
    print(found.lines)
    if found.drop is not None:
        drop = found.drop
        print(
            f"INT8: {drop.accuracy:.2f} % on {drop.images:,} {drop.split} images, {drop.before:.2f} % before "
            f"({-drop.points:+.2f} points)"
        )
    else:
        print(f"logits differ by {found.apart:.1e} of the largest one at most")
    print(f"written: {found.file}")
    return 0


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What `attnbench profile` measures in runtimes instead of in training."""

    runtime: str | None = None
    """Time predictions in these instead, beside the plain network: eager, pt2, onnxruntime, openvino, tensorrt, with
    commas between them."""
    batch_sizes: str | None = None
    """With --runtime: images at a time, as in 1,32 (default: 1 and --batch-size)."""
    int8: bool = False
    """With --runtime: in INT8 too, in the runtimes that have it."""
    images: str = "digits"
    """With --int8: the data set on whose training images it is calibrated."""
    data_dir: DataFlag = None

    def check_unused(self) -> None:
        """Refuse what means something only with --runtime.

        Raises:
            AttnbenchError: it was given.
        """
        for flag, given in {"--batch-sizes": self.batch_sizes is not None, "--int8": self.int8}.items():
            if given:
                raise AttnbenchError(f"{flag} goes with --runtime, as in --runtime onnxruntime,openvino")

    def asked(self, bench: BenchSettings, rounds: int | None) -> "Asked":
        """The same as values.

        Raises:
            AttnbenchError: an unknown runtime, a batch size that is none, or another device than the CPU.
        """
        from attnbench.deploy.latency import ROUNDS, Asked
        from attnbench.deploy.quantising import Real
        from attnbench.deploy.runtimes import runtimes_of

        names, text = runtimes_of(self.runtime or "eager"), self.batch_sizes or f"1,{bench.batch_size}"
        if bench.device != "cpu":
            raise AttnbenchError(f"--runtime measures on the CPU, not on {bench.device!r}; leave --device out")
        try:
            sizes = tuple(dict.fromkeys(int(size) for size in text.split(",")))
        except ValueError:
            raise AttnbenchError(f"--batch-sizes {text}: numbers with commas between them, as in 1,32") from None
        found = Asked(runtimes=names, batch_sizes=sizes, rounds=ROUNDS if rounds is None else rounds)
        if not self.int8:
            return found
        folder = runtime_of(data_dir=self.data_dir).data_dir
        return replace(found, real=Real.of(self.images, bench.side, folder))


def check_site(bench: BenchSettings) -> None:
    """Refuse a site that the backbone has not, before anything is measured.

    Raises:
        BadReference: it has none of that name.
    """
    from attnbench.catalogue.places import SE, sites
    from attnbench.networks.network import site_pattern

    if bench.site not in (None, SE):
        site_pattern(sites(BACKBONES.resolve(bench.backbone)), bench.site, bench.backbone)


def in_runtimes(
    names: Sequence[str], bench: BenchSettings, elsewhere: Elsewhere, rounds: int | None, folder: Path
) -> int:
    """Measure mechanisms in runtimes, a line each as it comes; what the folder holds of the same is not done again."""
    from attnbench.deploy.latency import measured_on, timed
    from attnbench.files import add_line
    from attnbench.report import runtimes

    asked = elsewhere.asked(bench, rounds)
    codes = {name: str(ATTENTION.resolve(name).identity) for name in names}
    check_site(bench)
    on = measured_on(bench, asked)
    with writing(f"{folder}/"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / runtimes.FILE).touch()
    found = runtimes.known(folder, on)
    before = {
        name: found[name] for name in names if name in found and found[name].get("code", codes[name]) == codes[name]
    }
    for name in before:
        print(f"{runtimes.line(before[name])}\n{'':16} (measured before)")
    for line in timed([name for name in names if name not in before], bench, asked):
        with writing(f"{folder}/"):
            add_line(folder / runtimes.FILE, line)
        print(runtimes.line(line), flush=True)
    with writing(f"{folder}/"):
        written = runtimes.write(folder, on)
    print(f"written: {', '.join(map(str, written))}")
    return 0
