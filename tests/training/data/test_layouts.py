"""Finding a product's images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import ImageError
from training.data.layouts import LabelledImage, find_layout, labelled_images, train_images, validation_images

DATA = Path(__file__).parents[4] / "shared" / "data"

# In a process of its own, because an audit hook cannot be removed.
LISTENING = """
import json, os, sys
from pathlib import Path
from training.data.good_parts import load_good_parts
from training.data.settings import DataSettings

touched = []

def hear(event, arguments):
    if event in {"open", "os.listdir", "os.scandir"} and isinstance(arguments[0], (str, bytes, os.PathLike)):
        touched.append(os.fsdecode(arguments[0]))

sys.addaudithook(hear)
parts = load_good_parts(Path(sys.argv[1]), DataSettings(), seed=0)
json.dump([touched, parts.train_names + parts.held_out_names], sys.stdout)
"""


def names(paths: tuple[Path, ...], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_mvtec(mvtec: Path) -> None:
    (mvtec / "train" / "good" / "._000.png").write_bytes(b"left by macOS")
    (mvtec / "train" / "good" / "notes.txt").write_text("no image")
    (mvtec / "test" / "readme.txt").write_text("no directory")
    layout = find_layout(mvtec)
    assert (layout.name, layout.root, layout.product) == ("mvtec", mvtec, "bottle")
    assert names(train_images(layout), mvtec) == [f"train/good/{index:03}.png" for index in range(10)]
    assert validation_images(layout) == ()
    test, masks = mvtec / "test", mvtec / "ground_truth"
    assert labelled_images(layout) == (
        LabelledImage(test / "good" / "000.png", None, ()),
        LabelledImage(test / "scratch" / "000.png", "scratch", (masks / "scratch" / "000_mask.png",)),
        LabelledImage(test / "scratch" / "001.png", "scratch", ()),
    )


def test_mvtec_loco_has_several_masks_of_one_image(loco: Path) -> None:
    layout = find_layout(loco)
    assert names(validation_images(layout), loco) == ["validation/good/000.png"]
    found = {sample.defect: names(sample.mask_paths, loco / "ground_truth") for sample in labelled_images(layout)}
    assert found == {
        None: [],
        "logical_anomalies": ["logical_anomalies/007/000.png", "logical_anomalies/007/001.png"],
        "structural_anomalies": ["structural_anomalies/007/000.png"],
    }


def test_masks_may_be_named_as_their_images(mvtec: Path, write: Callable[..., Path]) -> None:
    mask = write("bottle/ground_truth/scratch/001.bmp")
    assert labelled_images(find_layout(mvtec))[2].mask_paths == (mask,)


def test_visa(visa: Path) -> None:
    layout = find_layout(visa)
    assert (layout.name, layout.product) == ("visa", "candle")
    assert names(train_images(layout), visa) == [f"Data/Images/Normal/{index:04}.JPG" for index in (1, 2, 3)]
    assert validation_images(layout) == ()
    assert labelled_images(layout) == (
        LabelledImage(visa / "Data/Images/Anomaly/000.JPG", "anomaly", (visa / "Data/Masks/Anomaly/000.png",)),
        LabelledImage(visa / "Data/Images/Normal/0000.JPG", None, ()),
    )


def test_a_folder_of_good_parts(tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.JPG", "a.png", "c.tiff"):
        write(f"parts/{name}")
    write("parts/rejects/d.png")
    monkeypatch.chdir(tmp_path / "parts")
    layout = find_layout(Path())
    assert (layout.name, layout.product) == ("folder", "parts")
    assert names(train_images(layout), tmp_path / "parts") == ["a.png", "b.JPG", "c.tiff"]
    assert validation_images(layout) == labelled_images(layout) == ()


def test_what_is_no_product_is_refused(tmp_path: Path, mvtec: Path) -> None:
    with pytest.raises(ImageError, match=r"no train/good \(MVTec AD\), no Data/Images \(VisA\), no image") as refused:
        find_layout(tmp_path)
    assert "one product" in refused.value.remedy
    with pytest.raises(ImageError, match="nowhere"):
        find_layout(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (None, "without '.*1cls.csv'"),
        ("object,split,label,image\n", "lacks a column"),
        ("object,split,label,image,mask\ncapsules,train,normal,capsules/a.JPG,\n", "no object 'candle'"),
        ("object,split,label,image,mask\ncandle,train,anomaly,candle/Data/Images/a.JPG,\n", "trains on the defective"),
        ("object,split,label,image,mask\ncandle,train,normal,capsules/a.JPG,\n", "outside the product"),
        ("object,split,label,image,mask\ncandle,train\n", "outside the product"),
        ("\xff", "cannot be read"),
    ],
)
def test_a_wrong_split_is_refused(visa: Path, table: str | None, problem: str) -> None:
    split = visa.parent / "split_csv" / "1cls.csv"
    split.unlink()
    if table is not None:
        split.write_bytes(table.encode("latin-1"))
    with pytest.raises(ImageError, match=problem):
        train_images(find_layout(visa))


@pytest.mark.parametrize("product", ["mvtec", "loco", "visa"])
def test_training_touches_no_test_image(product: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(product)
    tested = {str(sample.path) for sample in labelled_images(find_layout(root))}
    heard = subprocess.run([sys.executable, "-c", LISTENING, str(root)], check=True, capture_output=True, timeout=60)
    touched, used = json.loads(heard.stdout)
    below = {Path(path).relative_to(root).as_posix() for path in touched if Path(path).is_relative_to(root)}
    assert below >= set(used)
    assert not {path.split("/")[0] for path in below} & {"test", "ground_truth"}
    assert not {path for path in below if path.startswith("Data") and path not in used}
    assert not set(touched) & tested


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no images at {DATA}")
@pytest.mark.parametrize(
    ("product", "train", "validation", "good", "defective", "with_mask"),
    [
        ("bottle", 209, 0, 20, 63, 8),
        ("tire", 210, 29, 25, 87, 87),
        ("magnetic_tile", 400, 0, 191, 392, 392),
        *[
            (f"piped/{name}", 36, 0, 12, 48, 48)
            for name in ("PA_BDP01_TL", "PA_BRG03_TL", "PA_FVN01_TL", "PA_ZPB01_RL")
        ],
    ],
)
def test_real_products(product: str, train: int, validation: int, good: int, defective: int, with_mask: int) -> None:
    layout = find_layout(DATA / product)
    samples = labelled_images(layout)
    kinds = Counter(sample.defect is None for sample in samples)
    assert len(train_images(layout)) == train
    assert len(validation_images(layout)) == validation
    assert (kinds[True], kinds[False]) == (good, defective)
    assert sum(len(sample.mask_paths) == 1 for sample in samples) == with_mask
