"""Write a `Detector` as ONNX, its weights in half precision where that loses nothing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from edge.errors import TfanetEdgeError
from training.networks.detector import Detector

OPSET = 17
MIN_STORED_ELEMENTS = 1024
# What the exporter says of every network, by the logger it uses; none of it changes the file.
_CHATTER = {
    "torch.onnx._internal.exporter._compat": "Setting ONNX exporter to use operator set version ",
    "torch.onnx._internal.exporter._registration": "torchvision is not installed. Skipping ",
    "onnxscript.version_converter": "The model version conversion is not supported ",
}


def write_onnx(graph: Detector, path: Path) -> None:
    """Export with a dynamic batch; inputs `image`, outputs `anomaly_map` and `score`.

    Args:
        graph: in eval mode.
        path: of the ONNX file.

    Raises:
        TfanetEdgeError: an operator in the graph is newer than OPSET.
    """
    example = torch.zeros(2, 256, 256, 3, dtype=torch.uint8)
    with _without_chatter(), warnings.catch_warnings():
        # The exporter warns of its own dependencies.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["anomaly_map", "score"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    if model.opset_import[0].version != OPSET:
        raise TfanetEdgeError(f"the exporter left the graph at opset {model.opset_import[0].version}, not {OPSET}")
    store_weights_as_half(model)
    strip_metadata(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Withhold the records in `_CHATTER`; all others pass."""
    with ExitStack() as restored:
        for name, beginning in _CHATTER.items():
            logger, quiet = logging.getLogger(name), _unless_it_begins(beginning)
            logger.addFilter(quiet)
            restored.callback(logger.removeFilter, quiet)
        yield


def _unless_it_begins(beginning: str) -> Callable[[logging.LogRecord], bool]:
    return lambda record: not str(record.msg).startswith(beginning)


def store_weights_as_half(model: onnx.ModelProto) -> None:
    """Keep each large float32 initializer that is exactly representable as float16 + Cast; same values, half the file.

    A runtime folds the casts when it loads the graph and computes in float32.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_STORED_ELEMENTS:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes (source paths among them) and the intermediate shapes."""
    del model.graph.value_info[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
