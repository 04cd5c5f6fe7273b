"""Figure 2: the architecture, drawn from the specification of a run: the stages and their attention modules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.figures import captions
from analysis.figures.curves_over_seeds import FigureCell, cells_of
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.figures.network_diagram.draw import draw
from analysis.figures.network_diagram.layout import NetworkLayout, SpecError, form_key, read_spec
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

_SIZES = {"cifar10": (32, 10), "cifar100": (32, 100), "cluttershapes": (32, 10), "imagenet": (224, 1000)}


@dataclass(frozen=True)
class _Diagram:
    """A drawing: the first run with this form of network, and the names of the other networks of the same form."""

    name: str
    fingerprint: str
    cell: FigureCell
    layout: NetworkLayout
    classes: int | None
    stem: str
    others: list[str]


def architecture(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields a drawing for each form of network; networks that differ only in widths and numbers share one."""
    for group in captions.comparable_groups(studies):
        found: dict[str, _Diagram] = {}
        for study in group:
            for cell in cells_of(study, results):
                for fingerprint in cell.results[:1]:
                    spec = results.spec(fingerprint)
                    if spec is None:
                        continue
                    try:
                        _add(found, spec, cell, fingerprint)
                    except SpecError as error:
                        yield MissingFigure(
                            "2", f"no figure 2 of run {fingerprint[:8]} of {captions.source_line([cell])}: {error}"
                        )
        for one in found.values():
            yield CaptionedFigure(
                kind="2",
                stem=one.stem,
                title=_title(one),
                caption=tuple(_caption(one)),
                draw=lambda one=one: draw(one.layout, _title(one), _subtitle(one), classes=one.classes),  # type: ignore[misc]
                studies=(one.cell.study,),
                fingerprints=(one.fingerprint,),
            )
        if not found:
            yield MissingFigure(
                "2", captions.missing_message("2", "no run with a specification", "mask_type", group[0])
            )


def _add(found: dict[str, _Diagram], spec: dict[str, Any], cell: FigureCell, fingerprint: str) -> None:
    """Adds a drawing to `found`, or a network's name to the drawing of its form. Raises SpecError."""
    known = cell.runs.network
    size, classes = (known.image_size, known.num_classes) if known else _SIZES.get(cell.study.dataset, (None, None))
    layout = read_spec(spec, size)
    model = next(iter(cell.runs.by_seed.values())).params.get("model.name") or cell.name
    try:
        key = form_key(spec)
    except (LookupError, TypeError) as error:
        raise SpecError(f"no specification of a network: {type(error).__name__}: {error}") from None
    if key in found:
        if model != found[key].name.partition(" ")[0] and model not in found[key].others:
            found[key].others.append(model)
        return
    options = []
    if any(stage.modules for stage in layout.stages):
        standard = {"learning": "arl", "mask_activation": "mixed", "mask_structure": "encoder_decoder"}
        options = [str(spec[name]) for name, value in standard.items() if spec[name] != value]
        ptr = (layout.p, layout.t, layout.r)
        options += [f"p{ptr[0]}t{ptr[1]}r{ptr[2]}"] * (ptr != (1, 2, 1))
    name = f"{model} ({', '.join(options)})" if options else model
    stem = captions.file_stem("figure2", model, *options, study=cell.study)
    found[key] = _Diagram(
        name=name, fingerprint=fingerprint, cell=cell, layout=layout, classes=classes, stem=stem, others=[]
    )


def _title(one: _Diagram) -> str:
    depth = one.layout.trunk_depth
    return f"Architecture of {one.name}" + (f": trunk depth {depth}" if depth else "")


def _subtitle(one: _Diagram) -> str:
    return f"{captions.source_line([one.cell])} · drawn from spec.json of run {one.fingerprint[:8]}"


def _caption(one: _Diagram) -> list[str]:
    sentences = [
        *captions.source_sentences([one.cell]),
        f"Drawn from spec.json of run {one.fingerprint[:8]} (n = 1 run).",
    ]
    if one.others:
        sentences.append(f"Of the same form, with other widths or numbers: {', '.join(one.others)}.")
    return sentences
