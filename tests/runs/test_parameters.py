"""Parameters: one schema, clear refusals."""

import math
from typing import Any, Literal, get_origin

import pytest

from pullpush import runs
from pullpush.parameters import ANNOTATIONS, ParameterError, injected_names, nearest, parse_schema

CELL = '''\
"""Settings."""  # not allowed in the cell itself, so cut off below
from typing import Optional
profile: Profile = "quick"  # where it is kept
seeds: list[int] = [0, 1]  # one training a seed
epochs: PositiveInt = 8
temperature: Temperature = 0.5  # of NT-Xent
learning_rate: PositiveFloat = 0.1
loss: Loss = "pair"  # pair (cosine), triplet
flip: bool = True
limit: Optional[int] = None  # how many
images: Optional[PositiveInt] = 28
margin: float = -0.5
data: str = "digits"
'''
SCHEMA = parse_schema("toy", CELL.split("\n", 1)[1])


def test_the_schema_is_the_cell() -> None:
    assert SCHEMA.names[:3] == ["profile", "seeds", "epochs"]
    assert SCHEMA["loss"].help == "pair (cosine), triplet"
    assert SCHEMA["epochs"].help == ""
    assert SCHEMA.validate({}) == {
        "profile": "quick", "seeds": [0, 1], "epochs": 8, "temperature": 0.5, "learning_rate": 0.1,
        "loss": "pair", "flip": True, "limit": None, "images": 28, "margin": -0.5, "data": "digits",
    }  # fmt: skip
    assert SCHEMA.changed(SCHEMA.validate({"epochs": "9"})) == {"epochs": 9}


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("flip", "false", False),
        ("flip", "True", True),
        ("flip", "0", False),
        ("flip", False, False),
        ("epochs", "12", 12),
        ("epochs", 12.0, 12),
        ("learning_rate", "1e-3", 1e-3),
        ("learning_rate", 1, 1.0),
        ("margin", "-2", -2.0),
        ("limit", "none", None),
        ("limit", "None", None),
        ("limit", "", None),
        ("limit", "50", 50),
        ("seeds", "[3, 4]", [3, 4]),
        ("seeds", "3,4", [3, 4]),
        ("seeds", "3 4", [3, 4]),
        ("seeds", "3", [3]),
        ("seeds", (3, 4), [3, 4]),
        ("loss", "triplet", "triplet"),
        ("data", "~/my images", "~/my images"),
        ("data", 7, "7"),
    ],
)
def test_coercion(name: str, given: Any, value: Any) -> None:
    validated = SCHEMA.validate({name: given})[name]
    assert validated == value
    assert type(validated) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("epochs", "0", "int, above 0"),
        ("epochs", "2.5", "int, above 0"),
        ("epochs", "many", "int, above 0"),
        ("epochs", True, "int, above 0"),
        ("epochs", None, "int, above 0"),
        ("epochs", "1e400", "int, above 0"),
        ("temperature", "0", "float, 0 < t <= 10"),
        ("temperature", "11", "float, 0 < t <= 10"),
        ("temperature", "nan", "float, 0 < t <= 10"),
        ("learning_rate", "inf", "float, above 0"),
        ("learning_rate", [0.1], "float, above 0"),
        ("flip", "maybe", "true or false"),
        ("flip", 2, "true or false"),
        ("limit", "few", "int, or none"),
        ("limit", True, "int, or none"),
        ("images", "0", "int, above 0, or none"),
        ("loss", "tripplet", "one of pair, triplet, margin, nt_xent, sup_con. Did you mean 'triplet'?"),
        ("loss", "Triplet", "Did you mean 'triplet'?"),
        ("loss", 3, "one of pair"),
        ("profile", "papr", "Did you mean 'paper'?"),
        ("data", True, "str"),
        ("seeds", "", "list of int, at least one, each different"),
        ("seeds", "[]", "at least one"),
        ("seeds", "1,1", "each different"),
        ("seeds", "-1", "at least 0"),
        ("seeds", "one", "list of int"),
        ("seeds", [True], "list of int"),
        ("seeds", "[0, 1", "list of int"),
        ("seeds", "0.5", "list of int"),
        ("seeds", None, "list of int"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(name: str, given: Any, allowed: str) -> None:
    with pytest.raises(ParameterError) as error:
        SCHEMA.validate({name: given})
    assert f"{name}={given!r} is not allowed. '{name}' takes " in str(error.value)
    assert allowed in str(error.value)


def test_an_unknown_name_brings_the_nearest_one() -> None:
    with pytest.raises(ParameterError) as error:
        SCHEMA.validate({"temprature": 1})
    assert str(error.value) == (
        "Unknown parameter 'temprature'. Did you mean 'temperature' (float, 0 < t <= 10, default 0.5)?"
    )
    with pytest.raises(ParameterError, match=r"Unknown parameter 'xyz'\. toy has: profile, seeds, epochs"):
        SCHEMA.validate({"xyz": 1})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ParameterError) as error:
        SCHEMA.validate({"epochs": 0, "flip": "maybe", "loss": "none"})
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x = 3", "'x = 3' in the parameters cell of toy is not of the form"),
        ("print(3)", "is not of the form"),
        ("x: int", "'x' of toy needs a literal default"),
        ("x: int = len([])", "needs a literal default"),
        ("x: Los = 'pair'", "Unknown annotation 'Los' of parameter 'x'. Did you mean 'Loss'?"),
        ("x: int | None = None", "Unknown annotation 'int | None'"),
        ("x: Literal['a'] = 'a'", "Unknown annotation"),
        ("x: PositiveInt = 0", "x=0 is not allowed"),
        ("x: Loss = 'cosine'", "x='cosine' is not allowed"),
    ],
)
def test_a_bad_parameters_cell_names_its_line(line: str, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        parse_schema("toy", f"profile: Profile = 'quick'\nseeds: list[int] = [0]\n{line}")
    assert message in str(error.value)


def test_every_study_has_profile_and_seeds() -> None:
    with pytest.raises(ParameterError, match="lacks 'seeds'"):
        parse_schema("toy", "profile: Profile = 'quick'")


def test_aliases_live_in_runs() -> None:
    """A parameters cell imports every annotation of ours from there."""
    ours = {name for name, kind in ANNOTATIONS.items() if get_origin(kind) is Literal} | {
        "Temperature",
        "Share",
    }
    assert len(ours) > 20 and ours <= set(runs.__all__)
    assert all(getattr(runs, name) is ANNOTATIONS[name] for name in ours)


def test_nearest_lists_what_there_is_when_nothing_is_near() -> None:
    assert nearest("zzz", ["one", "two"]) == "There are: one, two."
    assert nearest("zzz", []) == "There are none."


def test_the_injected_cell_is_the_newest_that_papermill_wrote() -> None:
    first, second = '# Parameters\nloss = "pair"\nseeds = [0, 1]\n', "# Parameters\nepochs = 3\n"
    assert injected_names(["", "a = 1", first, "loss = 2"]) == ["loss", "seeds"]
    assert injected_names([first, second]) == ["epochs"]
    assert injected_names(["", "import os", "x: int = 3  # Parameters"]) == []
    assert injected_names([]) == []


class TestBegin:
    def test_values_are_checked_and_written_back(self, light: Any) -> None:
        namespace = {"flip": "false", "seeds": "4,5", "epochs": 3, "unrelated": object()}
        run = runs.begin("toy", namespace)
        assert namespace["flip"] is False
        assert namespace["seeds"] == run.parameters["seeds"] == run.seeds == [4, 5]
        assert namespace["learning_rate"] == 0.1

    def test_bad_values_stop_it(self, light: Any) -> None:
        with pytest.raises(ParameterError, match="epochs=-1 is not allowed"):
            runs.begin("toy", {"epochs": -1})
        with pytest.raises(ParameterError, match="nap=nan is not allowed"):
            runs.begin("toy", {"nap": math.nan})

    def test_an_unknown_study_brings_the_nearest_one(self, light: Any) -> None:
        with pytest.raises(
            FileNotFoundError, match=r"Unknown study 'toi': no such notebook\. Did you mean 'toy'"
        ):
            runs.begin("toi", {})
