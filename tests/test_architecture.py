"""The floors and the never-list of the house, as data; a walk over the syntax trees names the line that breaks them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.house import (
    FILES,
    MODULES,
    PACKAGE,
    argument_count,
    circles,
    classes,
    function_lines,
    functions,
    import_graph,
    imports,
    module_name,
    parsed,
    room,
    room_graph,
    root_modules,
    where,
)

# Imports go down only, lazy ones and those for type checkers too: a module may import its own floor and those below it.
FLOORS = [
    ["cli", "__init__", "__main__"],
    ["training"],
    ["evaluation", "seams", "cluster", "batch"],
    ["mapping", "datasets"],
    ["model", "vector"],
    ["raster"],
    ["files", "legend", "locks", "toml", "embedded"],
    ["errors", "progress", "executor", "memory", "_version"],
]

# The stairs of each room, the top step first: a module imports only from steps below its own, inside its room too.
STAIRS = {
    "batch": [
        "dry_run",
        "job",
        "job_report runner",
        "changes",
        "output_names",
        "collect patterns",
        "inputs",
        "hooks input_files status",
        "backends jobfile lock stac_out",
        "events gantt ledger same_file stac_in task",
        "job_settings",
    ],
    "cli": [
        "commands",
        "evaluate_command model_commands",
        "accuracy_command areas_command batch_commands chips_command demo_command display_model doctor_command "
        "doubts_command "
        "polygonize_command seams_command segment_command split_command teach_command training_commands",
        "json_progress",
        "cluster_options display",
        "failures options sections",
    ],
    "cluster": [
        "dask_cluster",
        "dask_executor",
    ],
    "datasets": [
        "chips",
        "holdout",
        "frames splits",
        "cutter demo footprints label_checks pairs starter_config",
        "chipset demo_labels drawn_labels masks",
        "class_colours ground_blocks images label_layer layout scenes",
        "band_image",
    ],
    "evaluation": [
        "report resolutions",
        "comparison evaluate pictures tables",
        "curves results",
        "calibrate charts doubts map_accuracy",
        "axes boundaries samples scores",
    ],
    "mapping": [
        "installation segment",
        "segment_run",
        "estimate flood page",
        "page_pictures",
        "classify kept polygonize products publishing",
        "network_time result source_files sources",
        "run",
        "plan",
        "corrections",
        "predictors",
        "aoi fitting signatures workers",
        "block settings zones",
        "carried kinds outputs timeline trust",
    ],
    "model": [
        "add_model predictor",
        "tta",
        "engine",
        "torch_engine",
        "listing onnx_export openvino stac",
        "groups int8_ranges smp_checkpoint",
        "store",
        "onnx_writer",
        "fold fx_trace networks probe",
        "light_unet smp_unet stage_heads",
        "unet",
        "network",
        "device encoders folders interface lineage",
        "card catalogue cpu global_layers gpu reach tile_crops weights_file",
        "download",
    ],
    "raster": [
        "block_cache",
        "checked cog image mosaic source transcode",
        "labels polygon_mask",
        "collar warped",
        "blocks decode palette",
        "class_fields classes drawn tile_index view vrt",
        "joining",
        "piece",
        "bands warp working_grid",
        "describe features",
        "feature_opening",
        "bounds lattice opening",
        "placement tiff_place",
        "georef resample sidecars",
        "gdal_drivers",
        "damage drivers grid ifd jp2 kernel ramp sqlite_check",
        "pam_check",
    ],
    "seams": [
        "certificate_files",
        "figures",
        "certificate",
        "operations tilings",
    ],
    "training": [
        "experiments",
        "train_run",
        "export loop",
        "same_run step_learners",
        "distillation search",
        "callbacks fastai_learner growing",
        "learner",
        "conversion dataset encoder metrics quantize trained_card training_bar training_frames",
        "checkpoint config more_bands norm_folding teaching torchvision_compat",
    ],
    "training.conversion": ["convert", "origin", "unpickle_process"],
    "training.distillation": ["teacher teacher_learner teacher_loss", "pyramid", "torchvision_encoders"],
    "training.growing": ["finer_layers weight_averaging", "partial_unet"],
    "training.teaching": ["teach_run", "candidates", "fine_tune stage_fit", "chip_pixels lesson"],
    "vector": [
        "joined",
        "layers",
        "rows",
        "areas smooth",
        "polygons",
        "places rings simplify",
        "writing",
        "arcs transplant",
        "geopackage join merge trace",
        "existing",
        "corners parquet qgis_project regions sld stream",
        "qgis",
        "qgis_fields qgis_metadata",
        "fields formats style_colours survey",
    ],
}

# (what is imported, where it may be imported, whether only imports at module top are meant)
ONLY_IN = [
    ("fastai", ["training"], False),
    ("fastcore", ["training"], False),
    ("torchvision", ["training"], False),
    ("dask", ["cluster"], False),
    ("distributed", ["cluster"], False),
    ("rasterio", ["raster", "vector"], False),
    ("click", ["cli"], False),
    ("rich", ["cli"], False),
    ("cv2", ["datasets"], False),
]
TORCH = {
    *(
        "add_model",
        "encoders",
        "fold",
        "fx_trace",
        "global_layers",
        "gpu",
        "int8_ranges",
        "light_unet",
        "network",
        "networks",
    ),
    *(
        "onnx_export",
        "onnx_writer",
        "probe",
        "reach",
        "smp_checkpoint",
        "smp_unet",
        "stage_heads",
        "torch_engine",
        "unet",
    ),
    *("calibrate", "operations", "samples", "tilings"),
}
"""Modules that need torch as those of training/ do: the network and its runtime in model/, and what measures logits."""
NO_THIRD_PARTY = ["errors.py", "legend.py", "files.py", "toml.py", "progress.py", "raster/grid.py", "_version.py"]
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "core"}
MAX_ROOT_MODULES, MAX_FUNCTION_LINES, MAX_CLASS_LINES, MAX_ARGUMENTS = 8, 45, 120, 8
DOOR, KERNEL, COMMAND = "a door of the library: keywords", "a compiled loop over arrays", "options of a command"
MANY_ARGUMENTS = {
    "cli/batch_commands.py:batch_command": COMMAND,
    "cli/segment_command.py:segment_command": COMMAND,
    "cli/split_command.py:split_command": COMMAND,
    "datasets/chips.py:make_chips": DOOR,
    "datasets/splits.py:make_split": DOOR,
    "evaluation/evaluate.py:evaluate": DOOR,
    "evaluation/map_accuracy.py:assess_map": DOOR,
    "mapping/outputs.py:check": DOOR,
    "mapping/segment_run.py:prepare": DOOR,
    "mapping/segment.py:segment": DOOR,
    "training/conversion/convert.py:convert": DOOR,
    "training/teaching/teach_run.py:teach": DOOR,
    "training/teaching/lesson.py:prepare_lesson": DOOR,
    "vector/layers.py:polygonize": DOOR,
    "vector/polygons.py:fill": KERNEL,
    "vector/simplify.py:find_conflicts": KERNEL,
    "vector/simplify.py:jumps": KERNEL,
    "vector/smooth.py:mark_round": KERNEL,
    "vector/trace.py:follow": KERNEL,
}
"""Functions of more than eight arguments -> why."""


def floor(name: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), -1)


@cache
def house_imports() -> list[tuple[Path, str, int]]:
    """(file, imported module of the house, line) of every import but the door's."""
    return [
        (path, to, line)
        for path, tree in parsed()
        for to, line in imports(tree)
        if to in MODULES and path != PACKAGE / "__init__.py"
    ]


def test_every_module_stands_on_a_floor() -> None:
    assert not [str(path) for path in FILES if floor(room(module_name(path))) < 0]


def test_imports_go_down_only() -> None:
    wrong = [
        f"{where(path, line)} imports {to}, which stands higher"
        for path, to, line in house_imports()
        if floor(room(to)) < floor(room(module_name(path)))
    ]
    assert not wrong


def test_every_module_stands_on_a_step_of_its_room() -> None:
    standing = {f"aerialseg.{name}.{one}" for name, steps in STAIRS.items() for one in " ".join(steps).split()}
    assert standing == {module for module in MODULES if module.count(".") >= 2}


def test_imports_inside_a_room_go_down_its_stairs_only() -> None:
    steps = {
        f"aerialseg.{name}.{one}": number
        for name, rows in STAIRS.items()
        for number, row in enumerate(rows)
        for one in row.split()
    }
    wrong = []
    for path, to, line in house_imports():
        by, imported = where_they_part(module_name(path), to)
        if room(to) == room(module_name(path)) and steps.get(imported, 0) <= steps.get(by, -1):
            wrong.append(f"{where(path, line)} imports {to}, which stands no lower")
    assert not wrong


def where_they_part(one: str, other: str) -> tuple[str, str]:
    """Of two modules of a room, the modules or folders of it, or of a folder inside, that stand on its stairs."""
    ours, theirs = one.split("."), other.split(".")
    same = next((n for n, (mine, yours) in enumerate(zip(ours, theirs, strict=False)) if mine != yours), len(ours) - 1)
    return ".".join(ours[: same + 1]), ".".join(theirs[: same + 1])


def test_a_learner_needs_none_of_what_the_making_of_the_bundled_model_needs() -> None:
    """The path that everybody walks reads from top to bottom: no teachers, no layers that grow, no means of weights."""
    met, ahead = set(), ["aerialseg.training.fastai_learner"]
    while ahead:
        module = ahead.pop()
        met.add(module)
        ahead += import_graph()[module] - met
    assert "aerialseg.training.learner" in met
    assert not [module for module in met if module.split(".")[2:3] in (["distillation"], ["growing"])]


def test_no_modules_and_no_rooms_import_each_other_in_a_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert not circles(import_graph())
    assert not circles(room_graph())


@pytest.mark.parametrize(("package", "rooms", "top_only"), ONLY_IN)
def test_a_package_is_imported_only_where_it_belongs(package: str, rooms: list[str], top_only: bool) -> None:
    wrong = [
        f"{where(path, node.lineno)} imports {package}"
        for path, tree in parsed()
        if room(module_name(path)) not in rooms
        for node in third_party(tree, top_only=top_only)
        if package in packages(node)
    ]
    assert not wrong


@cache
def third_party(tree: ast.Module, *, top_only: bool) -> list[ast.Import | ast.ImportFrom]:
    """Imports of a module but those for type checkers; ``top_only``: those that run when it is imported."""
    hidden = {
        id(child)
        for node in ast.walk(tree)
        if (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        or (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))
        for child in ast.walk(node)
    }
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in hidden]


def packages(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return {name.split(".")[0] for name in names}


WITHOUT_TORCH = """
import importlib, sys
for name in ("torch", "torchvision", "fastai", "onnx", "onnxruntime"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


@pytest.mark.slow
def test_a_light_install_imports_all_but_the_torch_runtime_and_training() -> None:
    """By importing them where there is no torch; what a function imports when it needs it does not count."""
    optional = ("training", "cluster")
    names = [
        name
        for name in sorted(MODULES)
        if room(name) not in optional and name.rpartition(".")[2] not in TORCH and not name.endswith("__main__")
    ]
    assert len(names) > 150
    command = [sys.executable, "-c", WITHOUT_TORCH, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not done.returncode, done.stderr[-2000:]


@pytest.mark.parametrize("name", NO_THIRD_PARTY)
def test_the_ground_floor_needs_the_standard_library_alone(name: str) -> None:
    path = PACKAGE / name
    allowed = {*sys.stdlib_module_names, "aerialseg"}
    tree = ast.parse(path.read_text())
    assert not [to for node in third_party(tree, top_only=False) for to in packages(node) if to not in allowed]


def test_nothing_is_printed_outside_the_command_line() -> None:
    wrong = [
        f"{where(path, node.lineno)} prints"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and room(module_name(path)) != "cli"
    ]
    assert not wrong


def is_affine_arithmetic(node: ast.AST) -> bool:
    """Six numbers unpacked, an element of a transform, or the length of a step that is made of its letters."""
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store):
        return len(node.elts) == 6 and all(isinstance(name, ast.Name) and len(name.id) == 1 for name in node.elts)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith("hypot") and all(ast.unparse(arg) in "abde" for arg in node.args)
    if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr in "abcdef"):
        return ast.unparse(node.value).endswith(("transform", "affine"))
    return False


def test_only_georef_counts_with_the_numbers_of_a_transform() -> None:
    wrong = [
        f"{where(path, node.lineno)} {ast.unparse(node)}: give GeoGrid a method"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if is_affine_arithmetic(node) and path != PACKAGE / "raster" / "georef.py"
    ]
    assert not wrong


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [str(path) for path in FILES if path.stem in BANNED_NAMES or path.parent.name in BANNED_NAMES]


def test_names_of_classes_and_of_files_are_used_once() -> None:
    names = Counter(node.name for _, node, _ in classes() if not node.name.startswith("_"))
    stems = Counter(path.stem for path in FILES if path.stem != "__init__")
    assert not [name for name, count in (names + stems).items() if count > 1]


def test_at_most_eight_modules_stand_at_the_root() -> None:
    assert len(root_modules()) <= MAX_ROOT_MODULES, root_modules()


def test_functions_are_short() -> None:
    long = [
        f"{where(path, node.lineno)} {node.name}: {function_lines(node)} lines"
        for path, node in functions()
        if function_lines(node) > MAX_FUNCTION_LINES
    ]
    assert not long


def test_classes_are_short() -> None:
    long = [
        f"{where(path, node.lineno)} {node.name}: {lines}" for path, node, lines in classes() if lines > MAX_CLASS_LINES
    ]
    assert not long


def test_functions_have_few_arguments() -> None:
    many = {
        f"{path.relative_to(PACKAGE)}:{node.name}": argument_count(node)
        for path, node in functions()
        if argument_count(node) > MAX_ARGUMENTS
    }
    assert many.keys() == MANY_ARGUMENTS.keys(), many


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, aerialseg, aerialseg.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    heavy = {"numpy", "torch", "rasterio", "shapely", "geopandas", "pandas", "numba", "fastai", "rich", "pyproj"}
    assert not heavy & set(loaded)
