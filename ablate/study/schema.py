"""The JSON schema of a study file, for editors: keys, types, parts and knobs, with their comments as descriptions.

It is made of the pydantic models, the shelves and the presets, and knows the short spellings that `load` accepts. What
it refuses, `ablate plan` refuses. A plan refuses more, such as values that do not go together. The schema does not know
the parts of plug-ins: a study that names `plugins` may name any part.
"""

import ast
import inspect
from typing import Any, NamedTuple

from pydantic import BaseModel

from ablate import registry
from ablate.study import presets
from ablate.study.budget import Budget
from ablate.study.factor import Factor, Match, Tune
from ablate.study.papers import tables
from ablate.study.recipe import Recipe, TrainSpec, Weights
from ablate.study.study import MOST_SEEDS, PARTS, SET_BY_LOAD, Scale, Study

Schema = dict[str, Any]
MODELS: tuple[type[BaseModel], ...] = (Study, Recipe, TrainSpec, Weights, Factor, Match, Tune, Scale, Budget)
PATH = rf"^({'|'.join(Recipe.model_fields)})(\.\w+)*$"
SEEDS = [  # how many, or which
    {"type": "integer", "minimum": 1, "maximum": MOST_SEEDS},
    {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
]
NAMELESS = {"type": "object", "properties": {"name": False}}  # knobs of the part that is there


class Key(NamedTuple):
    """A key of a study file as its model's source has it."""

    type: str
    meaning: str  # the comment on its line


def keys(model: type[BaseModel]) -> dict[str, Key]:
    """The keys that a user may write for a model, with the comments on their lines."""
    source = inspect.getsource(model)
    lines, found = source.splitlines(), {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in model.model_fields:
            meaning = lines[node.lineno - 1].partition("  # ")[2]
            found[ast.unparse(node.target)] = Key(ast.unparse(node.annotation), meaning)
    return {name: key for name, key in found.items() if model is not Study or name not in SET_BY_LOAD}


def study_schema() -> Schema:
    """The schema as a document of draft 2020-12."""
    defs: dict[str, Schema] = {model.__name__: _of(model) for model in MODELS}
    study, recipe, train, weights, factor, match, tune, scale, _ = defs.values()
    del tune["properties"]["knobs"], tune["required"]
    tune["patternProperties"] = {PATH.replace("*$", "+$"): {"type": "array", "minItems": 1, "uniqueItems": True}}
    for schema in (study, scale):
        schema["properties"]["datasets"] = _datasets() | _said(schema, "datasets")
    study["properties"]["seeds"] = {"anyOf": SEEDS} | _said(study, "seeds")
    scale["properties"]["seeds"] = {"anyOf": [*SEEDS, {"type": "null"}]} | _said(scale, "seeds")
    train["properties"]["preset"] = _preset()
    weights["properties"]["sha256"] |= {"pattern": "^[0-9a-f]{8,64}$"}
    match["properties"]["by"] = _path_of_a_part(match["properties"]["by"])
    defs["Factor"] = _factor(factor)
    for kind in PARTS:
        recipe["properties"][kind] = {"$ref": f"#/$defs/{kind}", "description": f"the {kind}, by name or with knobs"}
        defs[kind] = _part(kind)
    recipe["allOf"] = [_protocol(task) for task in registry.names("task")]
    defs["Recipe change"] = _change(recipe, weights)
    scale["properties"]["recipe"] = {"$ref": "#/$defs/Recipe change"} | _said(scale, "recipe")
    scale["properties"]["budget"] = {"$ref": "#/$defs/Budget"} | _said(scale, "budget")
    defs["no plug-ins"] = _shelves()
    rule = {"if": {"not": {"required": ["plugins"]}}, "then": {"$ref": "#/$defs/no plug-ins"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of ablate",
        **study,
        "allOf": [rule],
        "$defs": {name: schema for name, schema in defs.items() if schema is not study},
    }


def _of(model: type[BaseModel]) -> Schema:
    """A model's own schema, with comments for descriptions and without titles."""
    schema = model.model_json_schema()
    known = keys(model)
    properties = {name: _untitled(schema["properties"][name]) for name in known}
    for name, key in known.items():
        properties[name] |= {"description": key.meaning} if key.meaning else {}
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return made | ({"required": schema["required"]} if "required" in schema else {})


def _untitled(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _untitled(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    return [_untitled(value) for value in schema] if isinstance(schema, list) else schema


def _said(schema: Schema, key: str) -> Schema:
    return {"description": schema["properties"][key]["description"]}


def _preset() -> Schema:
    known = presets.presets()
    said = "; ".join(f"{name}: {preset['source']}" for name, preset in known.items())
    return {"enum": list(known), "description": f"a published recipe of training; keys beside it win. {said}"}


def _path_of_a_part(by: Schema) -> Schema:
    path = {"type": "string", "pattern": r"^(model|task)\.\w+$"}
    return {"anyOf": [path, {"type": "object", "additionalProperties": path}], "description": by["description"]}


def _factor(factor: Schema) -> Schema:
    """Levels are a list of values for the path `at`, or names with such values, or names with paths and values."""
    properties = factor["properties"]
    properties["at"] = {"anyOf": [{"type": "string", "pattern": PATH}, {"type": "null"}]} | _said(factor, "at")
    properties["levels"] = {
        "anyOf": [{"type": "array", "minItems": 2, "uniqueItems": True}, {"type": "object", "minProperties": 2}],
        "description": "a list of values for `at`, or names with what they set; the first is the control",
    }
    paths = {"type": "object", "patternProperties": {PATH: True}, "additionalProperties": False}
    named = {"properties": {"levels": {"type": "object", "additionalProperties": paths}}}
    with_path = {"required": ["at"], "properties": {"at": {"type": "string"}}}
    return factor | {"if": with_path, "then": True, "else": named}


def _datasets() -> Schema:
    paths = {"type": "object", "patternProperties": {PATH: True}, "additionalProperties": False}
    return {"anyOf": [{"type": "object", "minProperties": 2, "additionalProperties": paths}, {"type": "null"}]}


def _part(kind: str) -> Schema:
    """A part by its bare name, or a name with knobs beside it; those of parts on the shelves are known."""
    return {
        "type": ["string", "object"],
        "properties": {"name": {"type": "string", "description": "; ".join(_summaries(kind))}},
        "required": ["name"],
        "allOf": [_knobs(kind, name) for name in registry.names(kind)],
    }


def _summaries(kind: str) -> list[str]:
    return [f"{name}: {registry.describe(kind, name).summary}" for name in registry.names(kind)]


def _knobs(kind: str, name: str) -> Schema:
    known = registry.knob_schemas(kind, name)
    required = [knob.name for knob in registry.describe(kind, name).knobs if knob.default is registry.REQUIRED]
    called = {"type": "object", "properties": {"name": {"const": name}}, "required": ["name"]}
    knobs = {"properties": {"name": True, **_untitled(known)}, "required": required, "additionalProperties": False}
    return {"if": called, "then": knobs}


def _protocol(task: str) -> Schema:
    """How a task evaluates: known where the recipe says which task it is."""
    named = {"type": "object", "properties": {"name": {"const": task}}, "required": ["name"]}
    knobs = {"properties": _untitled(registry.knob_schemas("protocol", task)), "additionalProperties": False}
    asked = {"properties": {"task": {"anyOf": [{"const": task}, named]}}, "required": ["task"]}
    return {"if": asked, "then": {"properties": {"evaluation": knobs}}}


def _change(recipe: Schema, weights: Schema) -> Schema:
    """What a scale may change of a recipe: any of its keys, and knobs without the name of their part."""
    weights = {key: value for key, value in weights.items() if key != "required"}
    return {
        "type": "object",
        "properties": recipe["properties"]
        | {kind: {"anyOf": [{"$ref": f"#/$defs/{kind}"}, NAMELESS]} for kind in PARTS}
        | {"weights": {"anyOf": [weights, {"type": "null"}]}},
        "allOf": recipe["allOf"],
        "additionalProperties": False,
    }


def _shelves() -> Schema:
    """Where no plug-in is named all parts are known: their names are those of the shelves."""
    parts: dict[str, Schema] = {}
    for kind in PARTS:
        names = {"enum": registry.names(kind)}
        parts[kind] = {"anyOf": [names, {"type": "object", "properties": {"name": names}}]}
    facts = [registry.describe("metric", name).facts for name in registry.names("metric")]
    scores: list[Schema] = [{"enum": [score for fact in facts for score in fact.get("scores", ())]}]
    scores += [{"type": "string", "pattern": f"^{fact['of_class']}"} for fact in facts if "of_class" in fact]
    recipe = {"properties": parts}
    return {
        "properties": {
            "recipe": recipe,
            "scales": {"additionalProperties": {"properties": {"recipe": recipe}}},
            "metrics": {"items": {"anyOf": scores}},
            "paper": {"enum": [*tables(), None]},
            "sections": {"anyOf": [{"items": {"enum": registry.names("section")}}, {"type": "null"}]},
        }
    }
