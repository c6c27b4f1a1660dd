"""The parameters of a study: one schema, read from the notebook cell tagged `parameters`, checked before
anything starts.

The cell holds annotated assignments, each with a default and a comment that becomes the help text:

    temperature: Temperature = 0.5  # softness of NT-Xent and SupCon

Annotations are plain names or subscripts of the names in `ANNOTATIONS` (papermill shows no help for anything
else). The cell is parsed, never executed, so a wrong name or value costs no kernel start.
"""

import ast
import difflib
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
)

Profile = Literal["quick", "laptop", "paper"]
Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda"]
Views = Literal["none", "pad_rotate_scale", "simclr"]
Loss = Literal["pair", "triplet", "margin", "nt_xent", "sup_con"]
Arm = Literal["scenario", "matched", "baseline"]
Negatives = Literal["class_aware", "blind"]
Mining = Literal["none", "semi_hard", "hard"]
Backbone = Literal["small", "resnet18", "resnet18_linear"]
Split = Literal["train", "all"]
Approach = Literal["claws", "simclr"]
Encoder = Literal["small", "efficientnet"]
Gate = Literal["hard", "gumbel", "soft", "top_k", "random", "none"]
GateSource = Literal["crop", "full", "mean", "backbone"]
Positives = Literal["instance", "class"]
MaskOf = Literal["own", "anchor"]
LabelInput = Literal["both", "full", "masked", "separate"]
Measured = Literal["full", "masked", "both"]
Projection = Literal["mlp", "linear", "norm"]
Clusterer = Literal["lnscc", "kmeans", "pca_kmeans", "spectral", "umap", "n2d"]
Features = Literal["auto", "raw", "standard", "pca", "autoencoder"]
EdgeLoss = Literal["logit", "umap"]
Prior = Literal["uniform", "estimated"]
Assignment = Literal["centres", "fc"]
Method = Literal[
    "pair", "triplet", "nt_xent", "sup_con", "cc", "rcc", "claws", "lnscc", "untrained", "pixels"
]  # fmt: skip
Objective = Literal["triplet", "semi_hard", "nt_xent", "sup_con", "cross_entropy"]
Strength = Literal["simclr", "soft", "crop", "pad_rotate_scale"]
Descent = Literal["sgd", "nesterov", "adam"]
Schedule = Literal["constant", "cosine", "one_cycle"]
Judge = Literal["validation", "test"]
Temperature = Annotated[float, Field(gt=0, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]

ANNOTATIONS: dict[str, Any] = {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "Optional": Optional,
    "PositiveInt": PositiveInt, "PositiveFloat": PositiveFloat,
    "NonNegativeInt": NonNegativeInt, "NonNegativeFloat": NonNegativeFloat,
    "Profile": Profile, "Precision": Precision, "Device": Device, "Views": Views, "Loss": Loss, "Arm": Arm,
    "Negatives": Negatives, "Mining": Mining, "Temperature": Temperature, "Backbone": Backbone,
    "Split": Split, "Share": Share, "Approach": Approach, "Encoder": Encoder, "Gate": Gate,
    "MaskOf": MaskOf, "LabelInput": LabelInput, "Measured": Measured, "Projection": Projection,
    "GateSource": GateSource, "Positives": Positives, "Clusterer": Clusterer, "Features": Features,
    "EdgeLoss": EdgeLoss, "Prior": Prior, "Assignment": Assignment,
    "Method": Method, "Objective": Objective, "Strength": Strength, "Descent": Descent,
    "Schedule": Schedule, "Judge": Judge,
}  # fmt: skip


class ParameterError(ValueError):
    """A parameter with a wrong name or value; the message says what is allowed."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """'Did you mean ...?' for the closest of `allowed`, or the whole list where none is close."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(given, names, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"There are: {', '.join(names)}." if names else "There are none."


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell."""

    name: str
    annotation: Any
    default: Any
    help: str

    @property
    def allowed(self) -> str:
        """The values it takes, in words: 'float, 0 < t <= 10'."""
        if self.name == "seeds":
            return "list of int, at least one, each different and at least 0"
        return describe(self.annotation, self.name)

    def __str__(self) -> str:
        return f"'{self.name}' ({self.allowed}, default {self.default!r})"


def describe(annotation: Any, name: str = "x") -> str:
    """An annotation in words: `Optional[PositiveInt]` is 'int, above 0, or none'."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = {
            bound: getattr(part, bound)
            for part in _flat(arguments[1:])
            for bound in ("gt", "ge", "lt", "le")
            if getattr(part, bound, None) is not None
        }
        low, high = bounds.get("gt", bounds.get("ge")), bounds.get("lt", bounds.get("le"))
        kind = describe(arguments[0], name)
        if low is not None and high is not None:
            left, right = "<" if "gt" in bounds else "<=", "<" if "lt" in bounds else "<="
            return f"{kind}, {low} {left} {name[0]} {right} {high}"
        if low is not None:
            return f"{kind}, {'above' if 'gt' in bounds else 'at least'} {low}"
        if high is not None:
            return f"{kind}, {'below' if 'lt' in bounds else 'at most'} {high}"
        return kind
    if origin is Literal:
        return "one of " + ", ".join(str(value) for value in arguments)
    if origin is list:
        return f"list of {describe(arguments[0], name)}"
    if origin is Union:
        return " or ".join(describe(part, name) for part in arguments if part is not type(None)) + ", or none"
    return "true or false" if annotation is bool else getattr(annotation, "__name__", str(annotation))


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """Constraints of an Annotated type; a pydantic `Field(gt=0)` holds its own in `.metadata`."""
    return [part for item in metadata for part in getattr(item, "metadata", [item])]


@dataclass(frozen=True)
class Schema:
    """All parameters of one study, in the order of its cell."""

    study: str
    parameters: tuple[Parameter, ...]
    model: type[BaseModel]

    def __getitem__(self, name: str) -> Parameter:
        return {parameter.name: parameter for parameter in self.parameters}[name]

    @property
    def names(self) -> list[str]:
        return [parameter.name for parameter in self.parameters]

    def check_names(self, given: Iterable[str]) -> None:
        """Raise ParameterError for the names that this study does not have."""
        problems = [self._unknown(name) for name in given if name not in self.names]
        if problems:
            raise ParameterError("\n".join(problems))

    def validate(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter, coerced, defaults filled in. Raises ParameterError with one line per problem."""
        self.check_names(given)
        values = {name: self._prepare(name, value) for name, value in given.items()}
        try:
            validated = self.model(**values).model_dump()
        except ValidationError as error:
            wrong = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
            problems = [self._invalid(name, given.get(name, self[name].default)) for name in wrong]
            raise ParameterError("\n".join(problems)) from None
        seeds = validated.get("seeds")
        if seeds is not None and (not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0):
            raise ParameterError(self._invalid("seeds", given.get("seeds", seeds)))
        return validated

    def changed(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the validated `parameters` that are not at their default."""
        defaults = self.validate({})
        return {name: value for name, value in parameters.items() if value != defaults[name]}

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.names, n=1)
        hint = f"Did you mean {self[close[0]]}?" if close else f"{self.study} has: {', '.join(self.names)}."
        return f"Unknown parameter '{name}'. {hint}"

    def _invalid(self, name: str, value: Any) -> str:
        sentence = f"{name}={value!r} is not allowed. '{name}' takes {self[name].allowed}."
        options = [part for part in _leaves(self[name].annotation) if isinstance(part, str)]
        if options and isinstance(value, str):
            close = difflib.get_close_matches(value, options, n=1)
            sentence += f" Did you mean '{close[0]}'?" if close else ""
        return sentence

    def _prepare(self, name: str, value: Any) -> Any:
        """What a terminal or papermill hands over as text, as Python: 'none' is None, '0,1,2' is a list."""
        annotation = self[name].annotation
        optional = get_origin(annotation) is Union
        inner = get_args(annotation)[0] if optional else annotation
        if isinstance(value, str):
            if optional and value.strip().lower() in ("none", "null", ""):
                return None
            if get_origin(inner) is list:
                value = _parse_list(value)
        elements = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(element, bool) for element in elements) and bool not in _leaves(inner):
            return _Rejected()  # Python counts True as 1; who writes epochs=True means something else
        return list(value) if isinstance(value, tuple) else value


class _Rejected:
    """A value that no field accepts."""


def _leaves(annotation: Any) -> list[Any]:
    """The types and literal values that an annotation is made of."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _leaves(arguments[0])
    return [leaf for part in arguments for leaf in _leaves(part)] if arguments else [annotation]


def _parse_list(text: str) -> Any:
    """'[0, 1]', '0,1' and '0 1' are lists, '3' is a list of one; anything else stays text."""
    stripped = text.strip()
    if not stripped.startswith("["):
        stripped = "[" + re.sub(r"[\s,]+", ", ", stripped.strip(", ")) + "]"
    try:
        return yaml.safe_load(stripped)
    except yaml.YAMLError:
        return text


def read_yaml(path: Path) -> Any:
    """A YAML file, by libyaml where it is there: six times as fast on the plans, which are read often."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook as JSON. Raises FileNotFoundError naming the studies that exist."""
    if not path.is_file():
        studies = sorted(found.stem for found in path.parent.glob("*.ipynb"))
        raise FileNotFoundError(
            f"Unknown study '{path.stem}': no such notebook. {nearest(path.stem, studies)}"
        )
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(notebook: Mapping[str, Any], tag: str | None = None) -> list[str]:
    """Sources of the code cells, of those with `tag` where one is given."""
    return [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and (tag is None or tag in cell.get("metadata", {}).get("tags", []))
    ]


def read_schema(path: Path) -> Schema:
    """The schema of the study whose notebook is `path`."""
    cells = code_cells(read_notebook(path), "parameters")
    if len(cells) != 1:
        raise ParameterError(f"{path.name} has {len(cells)} cells tagged 'parameters'; it needs exactly one.")
    return parse_schema(path.stem, cells[0])


def parse_schema(study: str, source: str) -> Schema:
    """The schema in the source of a parameters cell.

    Raises ParameterError for a line that is not `name: annotation = default`, an unknown annotation, a
    default that is not literal or not allowed, and where `profile` or `seeds` is missing.
    """
    comments = _comments(source)
    parameters = []
    for statement in ast.parse(source).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            continue
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            line = ast.unparse(statement).splitlines()[0]
            raise ParameterError(
                f"'{line}' in the parameters cell of {study} is not of the form 'name: annotation = default'."
            )
        name = statement.target.id
        try:
            default = ast.literal_eval(statement.value) if statement.value else ...
        except ValueError:
            default = ...
        if default is ...:
            raise ParameterError(
                f"Parameter '{name}' of {study} needs a literal default, such as 3, 'mnist' or [0, 1]."
            )
        text = comments.get(statement.end_lineno or statement.lineno, "")
        parameters.append(Parameter(name, _resolve(statement.annotation, name), default, text))
    for needed in ("profile", "seeds"):
        if needed not in {parameter.name for parameter in parameters}:
            raise ParameterError(f"The parameters cell of {study} lacks '{needed}', which every study has.")
    fields: dict[str, Any] = {
        parameter.name: (parameter.annotation, parameter.default) for parameter in parameters
    }
    config = ConfigDict(
        validate_default=True, allow_inf_nan=False, coerce_numbers_to_str=True, protected_namespaces=()
    )
    schema = Schema(study, tuple(parameters), create_model(study, __config__=config, **fields))
    schema.validate({})  # a default that breaks its own annotation is the author's mistake: say so at once
    return schema


def _comments(source: str) -> dict[int, str]:
    """Comment text by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _resolve(node: ast.expr, name: str) -> Any:
    """The type that a plain name or a subscript of plain names stands for."""
    if isinstance(node, ast.Subscript):
        return _resolve(node.value, name)[_resolve(node.slice, name)]
    if isinstance(node, ast.Name) and node.id in ANNOTATIONS:
        return ANNOTATIONS[node.id]
    written = ast.unparse(node)
    raise ParameterError(
        f"Unknown annotation '{written}' of parameter '{name}'. {nearest(written, ANNOTATIONS)}"
    )


def injected_names(inputs: Sequence[str]) -> list[str]:
    """Names assigned by the newest cell that papermill injected, given the sources of the executed cells.

    papermill does not tell a kernel which parameters it passed, but the cell it injects is executed like any
    other and starts with '# Parameters'. Without papermill (Jupyter, nbval) there is none: an empty list.
    """
    for source in reversed(inputs):
        if re.match(r"\s*# Parameters\s*\n", source):
            targets = [node.targets[0] for node in ast.parse(source).body if isinstance(node, ast.Assign)]
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []
