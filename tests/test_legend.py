from pathlib import Path

import pytest

from aerialseg.errors import InputError
from aerialseg.legend import LandClass, Legend
from tests.fakes import LEGEND


def test_csv_gives_the_same_legend_back(tmp_path: Path) -> None:
    LEGEND.to_csv(tmp_path / "legend.csv")
    assert Legend.from_csv(tmp_path / "legend.csv") == LEGEND


def test_json_gives_the_same_legend_back() -> None:
    assert Legend.from_json(LEGEND.to_json()) == LEGEND


def test_without_ids_the_line_is_the_id(tmp_path: Path) -> None:
    path = tmp_path / "class_dict_seg.csv"
    path.write_text("name, r, g, b\nunlabeled, 0, 0, 0\nwater, 28, 42, 168\n")
    legend = Legend.from_csv(path)
    assert legend[1] == LandClass(1, "water", (28, 42, 168))
    assert legend[1].hex == "#1c2aa8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,r,g\na,1,2\n", "lacks the column 'b'"),
        ("name,r,g,b\na,1,2,300\n", r"\(1, 2, 300\)"),
        ("name,r,g,b\na,1,2,red\n", "line 2"),
        ("id,name,r,g,b\n65536,a,1,2,3\n", "0 to 65535"),
        ("name,r,g,b\na,1,2,3\na,4,5,6\n", "'a' twice"),
        ("id,name,r,g,b\n1,a,1,2,3\n1,b,4,5,6\n", "id 1 twice"),
        ("", "lacks the column"),
    ],
)
def test_a_bad_legend_is_an_error_that_names_the_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "legend.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Legend.from_csv(path)


def test_a_missing_legend_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        Legend.from_csv(tmp_path / "nowhere.csv")


def test_an_unknown_class_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no class 77"):
        LEGEND[77]


def test_what_a_map_shows_stands_beside_the_names_and_colours_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "legend.csv"
    path.write_text("name,r,g,b,title,map_color\nbald-tree,190,250,190,bare tree,#d0bf84\nwater,0,0,255,,\n")
    legend = Legend.from_csv(path)
    assert legend[0] == LandClass(0, "bald-tree", (190, 250, 190), "bare tree", (208, 191, 132))
    assert legend.on_maps().classes == (LandClass(0, "bare tree", (208, 191, 132)), LandClass(1, "water", (0, 0, 255)))
    assert legend.on_maps(void=[1]).names == ("bare tree",)
    legend.to_csv(tmp_path / "again.csv")
    assert Legend.from_csv(tmp_path / "again.csv") == legend == Legend.from_json(legend.to_json())


def test_a_map_colour_that_is_none_is_an_error_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "legend.csv"
    path.write_text("name,r,g,b,map_color\na,1,2,3,blue\n")
    with pytest.raises(InputError, match=r"line 2: map_color is 'blue': wanted a colour such as #"):
        Legend.from_csv(path)


def test_a_class_is_found_by_its_name_and_then_by_its_title() -> None:
    legend = Legend((LandClass(0, "dirt", (1, 1, 1), "grass"), LandClass(1, "grass", (2, 2, 2)), LEGEND[4]))
    assert legend.find("grass") == legend[1]
    assert legend.find("dirt") == legend[0]
    assert legend.find("") is legend.find("tree") is None
    assert legend.spoken == "grass (dirt), grass, roof"
    assert LandClass(0, "dirt", (1, 1, 1), "bare soil") == Legend((LandClass(0, "dirt", (1, 1, 1), "bare soil"),)).find(
        "bare soil"
    )
