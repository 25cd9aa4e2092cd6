import polars
import pytest
from polars import Float64, Int64, List, String

from src.runs.tables import COLUMNS, Table

LAYER = {"step": Int64, "layer": Int64, "name": String}
CONTRACT = {
    "metrics": {"step": Int64, "name": String, "value": Float64},
    "norms": LAYER | dict.fromkeys(["grad_norm", "update_norm", "weight_norm"], Float64),
    "ics": LAYER
    | dict.fromkeys(
        ["l2", "cosine", "relative", "grad_norm", "grad_norm_after", "weight_norm"], Float64
    ),
    "landscape": {"step": Int64, "metric": String, "direction": String}
    | dict.fromkeys(["eta", "loss_at_zero", "loss", "grad_norm", "grad_norm_at"], Float64)
    | dict.fromkeys(["grad_diff", "cosine", "beta", "weight_norm"], Float64),
    "activations": LAYER
    | {"site": String, "unit": Int64}
    | dict.fromkeys(["mean", "variance", "q15", "q50", "q85"], Float64)
    | {"edges": List(Float64), "counts": List(Int64)},
    "curvature": {"step": Int64, "quantity": String, "value": Float64, "error": Float64},
    "theory": {"step": Int64, "layer": Int64, "quantity": String, "value": Float64},
}
WHOLE = (3, 1, "conv1", "before_norm", None, 0.5, 1.0, -1.0, 0.0, 1.0, [0.0, 1.0], [4])
UNIT = (3, 1, "conv1", "before_norm", 7, 0.5, 1.0, -1.0, 0.0, 1.0, [0.0, 1.0], [4])


def row(step: int) -> tuple[object, ...]:
    return (step, "top", float(step), None)


@pytest.mark.parametrize("name", CONTRACT)
def test_columns_are_the_contract_s_even_without_rows(tmp_path, name):
    table = Table(tmp_path, name)
    table.start(0)
    table.write()
    schema = polars.read_parquet(tmp_path / f"{name}.parquet").schema
    assert list(schema.items()) == list(CONTRACT[name].items())
    assert COLUMNS.keys() == CONTRACT.keys()


def test_rows_come_back_as_they_were(tmp_path):
    table = Table(tmp_path, "activations")
    table.start(0)
    table.add([WHOLE, UNIT])
    table.write()
    frame = polars.read_parquet(table.path)
    assert frame.rows() == [WHOLE, UNIT]
    assert list(frame.schema.items()) == list(CONTRACT["activations"].items())


def test_before_the_start_nothing_is_written(tmp_path):
    Table(tmp_path, "curvature").write()
    assert not any(tmp_path.iterdir())


def test_a_resumed_table_keeps_the_rows_below_its_step_and_repeats_none(tmp_path):
    first = Table(tmp_path, "curvature")
    first.start(0)
    first.add([row(step) for step in range(6)])
    first.write()
    second = Table(tmp_path, "curvature")
    second.start(4)
    second.add([row(4), row(5), row(6)])
    second.write()
    assert polars.read_parquet(second.path).rows() == [row(step) for step in range(7)]


def test_a_table_begun_anew_has_no_old_row(tmp_path):
    for _ in range(2):
        table = Table(tmp_path, "curvature")
        table.start(0)
        table.add([row(1)])
        table.write()
    assert polars.read_parquet(table.path).rows() == [row(1)]


def test_a_table_cut_off_or_removed_cannot_be_read(tmp_path):
    table = Table(tmp_path, "curvature")
    table.start(0)
    table.write()
    assert table.readable()
    table.path.write_bytes(table.path.read_bytes()[:-9])
    assert not table.readable()
    table.path.unlink()
    assert not table.readable()


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("curvature", (3, "top", 2.0, None), {"curvature/top/value": 2.0}),
        ("theory", (3, 2, "factor", 0.5), {"theory/2/factor/value": 0.5}),
        (
            "norms",
            (3, 2, "norm2.bias", 1.0, 2.0, 3.0),
            {
                "norms/2/norm2.bias/grad_norm": 1.0,
                "norms/2/norm2.bias/update_norm": 2.0,
                "norms/2/norm2.bias/weight_norm": 3.0,
            },
        ),
    ],
)
def test_scalars_are_named_by_table_keys_and_column(tmp_path, name, row, expected):
    assert Table(tmp_path, name).scalars([row]) == expected


def test_scalars_of_a_landscape_are_told_apart_by_step_size(tmp_path):
    rows = [(3, "euclidean", "gradient", eta, *[1.0] * 8) for eta in (0.05, 0.1)]
    found = Table(tmp_path, "landscape").scalars(rows)
    assert len(found) == 16 and found["landscape/euclidean/gradient/1/beta"] == 1.0


def test_scalars_are_not_of_single_units(tmp_path):
    table = Table(tmp_path, "activations")
    whole = table.scalars([WHOLE])
    assert whole["activations/1/conv1/before_norm/mean"] == 0.5 and len(whole) == 5
    assert table.scalars([WHOLE, UNIT]) == whole and table.scalars([UNIT]) == {}
