"""Decoding at reduced scale against full decoding: time, difference of the tensors, precision@5."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmark.sections.image_race import plain, reduced
from export.quality import spread, torch_recommender
from measure.markdown import cell, number, ratios, table
from measure.progress import progress_bar
from training.checkpoint import load_with_data
from training.data.dataset import EvaluationPictures
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.data.shards import picture_of
from training.metrics import Ranked, merge, rank, summarize

ROUGHNESS = {"much detail": 1.2, "some detail": 1.4, "little detail": 1.6}
"""Exponent by which the amplitude of detail falls with its frequency. The files have about 3.8, 2.2 and 1.5 MB."""
QUALITY = 88
"""JPEG quality; the chroma is 4:2:0, as in cameras."""
GRAIN = 8
"""Standard deviation, in grey levels, of the noise on enlarged pictures, which otherwise have no fine detail."""
BATCH = 25
PHOTO_HEADS = ("photo", "MB", "full, ms", "reduced, ms", "full / reduced")


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Settings of the section `images`. Photos have 12 megapixels by default."""

    rounds: int = 5
    photo: tuple[int, int] = (4000, 3000)
    enlarged_side: int = 3464
    enlarged_pictures: int = 200


def measure_images(settings: ImageSettings, checkpoint_path: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Time and compare made-up photos, and measure precision@5 of enlarged test pictures. Raises TrainingError."""
    checkpoint, manifest, histories = load_with_data(checkpoint_path, data)
    photos = {}
    for name, file in progress_bar(photo_files(settings.photo), "images", total=len(ROUGHNESS) + 2, unit="photo"):
        apart = np.abs(plain(file).astype(np.int64) - reduced(file))
        with Image.open(io.BytesIO(file)) as image:
            photos[name] = {
                "megapixels": image.width * image.height / 1e6,
                "bytes": len(file),
                "ms": _race(file, folder / "photo.jpg", settings.rounds),
                "max_abs_difference": int(apart.max()),
                "mean_abs_difference": float(apart.mean()),
            }
    return {
        "preset": checkpoint.settings.preset,
        "rounds": settings.rounds,
        "photos": photos,
        "enlarged": _precision(settings, checkpoint.model, manifest, histories),
    }


def photo_files(size: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    """Yield names and JPEG files: one per level of detail, a progressive one, and one with four times the pixels."""
    for name, roughness in ROUGHNESS.items():
        picture = photo(*size, roughness)
        yield name, _jpeg(picture)
        if name == "some detail":
            yield f"{name}, progressive", _jpeg(picture, progressive=True)
            yield f"{name}, four times the pixels", _jpeg(_four(picture))


def photo(width: int, height: int, roughness: float) -> Image.Image:
    """Draw a made-up photo: noise of all frequencies as texture, polygons with sharp edges, and grain."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    spectrum = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    texture = np.fft.irfft2(spectrum * frequency**-roughness, (height, width))
    edges = Image.new("RGB", (width, height), (120, 110, 100))
    draw = ImageDraw.Draw(edges)
    for _ in range(60):
        x, y = rng.integers(0, (width, height))
        angles, radius = np.sort(rng.uniform(0, 2 * np.pi, 5)), rng.integers(height // 60, height // 5)
        corners = [(x + radius * np.cos(angle), y + radius * np.sin(angle)) for angle in angles]
        draw.polygon(corners, fill=tuple(rng.integers(30, 225, 3).tolist()))
    pixels = np.asarray(edges, dtype=np.float32) / 2 + 60
    pixels += (45 / texture.std() * (texture - texture.mean())).astype(np.float32)[..., None]
    pixels += 2 * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _four(picture: Image.Image) -> Image.Image:
    """Tile the picture 2 x 2."""
    return Image.fromarray(np.tile(np.asarray(picture), (2, 2, 1)))


def _jpeg(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0", **options)
    return file.getvalue()


def _race(file: bytes, path: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    path.write_bytes(file)
    command = [sys.executable, "-m", "benchmark.sections.image_race", str(path), "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    times: dict[str, dict[str, list[float]]] = json.loads(done.stdout)
    return times


def _precision(settings: ImageSettings, model: Any, manifest: Manifest, histories: Histories) -> dict[str, Any]:
    """Measure precision@5 on test pictures, and on the same ones enlarged to noisy JPEGs and decoded both ways."""
    rows = spread(manifest.rows("test"), settings.enlarged_pictures)
    pictures, recommend = EvaluationPictures(manifest, histories, rows), torch_recommender(model)
    side = settings.enlarged_side
    grain = np.random.default_rng(0).normal(0, GRAIN, (side, side, 1)).round().astype(np.int16)
    ranked: dict[str, list[Ranked]] = {"as it is": [], "plain": [], "reduced": []}
    sizes = []
    for start in progress_bar(range(0, len(rows), BATCH), "enlarged", unit="batch"):
        batch = range(start, min(start + BATCH, len(rows)))
        files = [_enlarged(picture_of(manifest, int(rows[i])), grain) for i in batch]
        items = zip(*(pictures[i][:4] for i in batch), strict=True)
        image, history, tags, user = (np.stack(column) for column in items)
        read = {"as it is": image, "plain": np.stack([*map(plain, files)]), "reduced": np.stack([*map(reduced, files)])}
        for name, tensors in read.items():
            scores = torch.from_numpy(recommend(tensors, history))
            ranked[name].append(rank(scores, torch.from_numpy(tags), torch.from_numpy(user), ks=(5,)))
        sizes += [len(file) for file in files]
    return {
        "pictures": len(rows),
        "side": side,
        "mean_bytes": sum(sizes) / len(sizes),
        "precision_at_5": {name: summarize(merge(parts))["precision@5"] for name, parts in ranked.items()},
    }


def _enlarged(file: Path | bytes, grain: NDArray[np.int16]) -> bytes:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
        large = picture.convert("RGB").resize((grain.shape[1], grain.shape[0]), Image.Resampling.BICUBIC)
    return _jpeg(Image.fromarray((np.asarray(large) + grain).clip(0, 255).astype(np.uint8)))


def render_images(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    photos, enlarged = section["photos"], section["enlarged"]
    values = enlarged["precision_at_5"]
    worker = [median(_speedups(of, "worker")) for of in photos.values()]
    largest, mean = (max(of[f"{kind}_abs_difference"] for of in photos.values()) for kind in ("max", "mean"))
    return [
        f"Time to turn a JPEG (quality {QUALITY}, 4:2:0) into the tensor, in {section['rounds']} rounds: decoded in "
        "full, or at a reduced scale, as the client does. In a worker thread, where full decoding is faster, the "
        f"ratios are {number(min(worker))} to {number(max(worker))}.",
        "",
        *table(PHOTO_HEADS, [_photo_line(name, of) for name, of in photos.items()]),
        "",
        f"The tensors differ by at most {largest} grey levels, and on average by at most {mean:.1f}. Precision@5 of "
        f"preset `{section['preset']}` on {enlarged['pictures']:,} test pictures, enlarged to noisy JPEGs of "
        f"{enlarged['side']} x {enlarged['side']}: full {values['plain']:.4f}, reduced {values['reduced']:.4f}; before "
        f"enlarging {values['as it is']:.4f}.",
        "",
    ]


def _speedups(of: Mapping[str, Any], thread: str) -> list[float]:
    return ratios(of["ms"][thread]["reduced"], of["ms"][thread]["plain"])


def _photo_line(name: str, of: Mapping[str, Any]) -> list[str]:
    times = of["ms"]["main"]
    return [
        f"{name}, {of['megapixels']:.0f} megapixels",
        f"{of['bytes'] / 1e6:.1f}",
        *(number(median(times[name])) for name in ("plain", "reduced")),
        cell(_speedups(of, "main")),
    ]
