"""From a checkpoint to a model folder: card, weights, scores."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aerialseg._version import __version__
from aerialseg.datasets.pairs import find_pairs, read_split, split_pairs
from aerialseg.errors import InputError, ModelError
from aerialseg.evaluation.calibrate import calibrate_on
from aerialseg.evaluation.evaluate import evaluate
from aerialseg.legend import Legend
from aerialseg.model.card import APPROXIMATE_HALO, Architecture, ModelCard
from aerialseg.model.store import CARD, load_network, save
from aerialseg.model.unet import build
from aerialseg.progress import Progress, Silent
from aerialseg.training.averaging import read_finished
from aerialseg.training.checkpoint import Saved
from aerialseg.training.coarse import network_weights
from aerialseg.training.config import TrainingConfig
from aerialseg.training.folding import FOLDED, fold_norms, with_norm
from aerialseg.training.learner import use_bf16
from aerialseg.training.teacher import read_teacher, score_teacher, write_teacher


def export(
    config: str | Path | TrainingConfig,
    data_dir: str | Path | None,
    out_dir: str | Path,
    *,
    work: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The model folder ``out_dir``, made from the last checkpoint of ``work`` (``out_dir``/training unless told).

    A run that was killed is exported by this too. With ``data_dir`` the held-out frames are scored, the confidence is
    calibrated on them, and both go into the card; None leaves them out. Raises ModelError where there is no checkpoint.
    """
    progress, out_dir = progress or Silent(), Path(out_dir)
    config = config if isinstance(config, TrainingConfig) else TrainingConfig.read(config)
    work = Path(work) if work else out_dir / "training"
    saved = read_finished(work)
    if saved is None or not saved.history:
        raise ModelError(f"{work} holds no finished epoch: train for at least one")
    if config.teaches:
        return _export_teacher(config, data_dir, out_dir, saved, _provenance(config, saved, work), progress)
    card = save(out_dir, make_card(config, saved, work), network_state(config, saved.weights))
    load_network(out_dir)  # what was written is what loads
    if data_dir is not None:
        found = evaluate(out_dir, data_dir, config=config.data, progress=progress)
        confusion = found.confusion
        card = replace(card, scores={"held_out": confusion.to_json(found.legend, found.void)})
        card.write(out_dir / CARD)
        progress.note(f"held out: {confusion.spoken(found.legend, found.void)}")
        _calibrate(out_dir, data_dir, config, progress)
    progress.note(f"model in {out_dir}")
    return out_dir


def _export_teacher(
    config: TrainingConfig,
    data_dir: str | Path | None,
    out_dir: Path,
    saved: Saved,
    training: dict[str, Any],
    progress: Progress,
) -> Path:
    legend, notes = Legend.from_csv(config.data.legend), {"training": training}
    write_teacher(out_dir, config, legend, saved.weights, notes)
    if data_dir is not None:
        held = split_pairs(find_pairs(data_dir, config.data), read_split(config.data.split))[1]
        network = read_teacher(out_dir, legend).network  # what was written is what is scored
        confusion = score_teacher(network, held, legend, config, use_bf16(config.precision))
        scores = confusion.to_json(legend, config.data.void)
        write_teacher(out_dir, config, legend, saved.weights, {**notes, "scores": scores})
        progress.note(f"held out: {confusion.spoken(legend, config.data.void)}")
    progress.note(f"teacher in {out_dir}")
    return out_dir


def _calibrate(model: Path, data_dir: str | Path, config: TrainingConfig, progress: Progress) -> None:
    try:
        progress.note(calibrate_on(model, data_dir, config=config.data, progress=progress).text())
    except InputError as error:  # one scene alone cannot be both fitted on and judged by
        progress.note(f"the confidence is not calibrated: {error}")


def network_state(config: TrainingConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint as those of the model that is kept."""
    state = fold_norms(network_weights(weights))
    return with_norm(state) if config.decoder.norm == "batch" else state


def make_card(config: TrainingConfig, saved: Saved, work: Path) -> ModelCard:
    """The card of a trained model but for its hash and scores; the halo is the network's own reach, if it has one."""
    legend = Legend.from_csv(config.data.legend)
    decoder = config.decoder
    norm = "none" if decoder.norm in FOLDED else decoder.norm
    architecture = Architecture(
        encoder=config.encoder.arch, blur=decoder.blur, self_attention=decoder.self_attention, norm=norm
    )
    with torch.device("meta"):
        network = build(classes=len(legend), **asdict(architecture))
    return ModelCard(
        name=config.name,
        legend=legend,
        gsd_m=config.data.gsd_m,
        architecture=architecture,
        halo=APPROXIMATE_HALO if network.inexact else network.reach.halo,
        exact=not network.inexact,
        void=config.data.void,
        description=config.description,
        licence=config.licence,
        lineage=config.lineage,
        training=_provenance(config, saved, work),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        code_version=__version__,
    )


_KNOWN = ("data_sha256", "split_sha256", "encoder_weights", "teachers")


def _provenance(config: TrainingConfig, saved: Saved, work: Path) -> dict[str, Any]:
    """What the run can be repeated from: configuration, seed, hash of the data; and how it went."""
    run = work / "run.json"
    known = json.loads(run.read_text(encoding="utf-8")) if run.exists() else {}
    return {
        "config": config.to_json(),
        "frame_size": list(config.data.size),
        **{name: known[name] for name in _KNOWN if name in known},
        "versions": {"torch": torch.__version__, "fastai": version("fastai")},
        "searches": saved.searches,
        "history": saved.history,
    }
