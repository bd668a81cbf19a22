"""Every node of a config is a constructor call: check its keys and simple types before anything is built."""

import difflib
import importlib.util
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

from ebm_lab.errors import UserError

_RESERVED = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
_NUMBER = (int, float)


def check_bindings(node: DictConfig | ListConfig, path: str = "") -> None:
    """Raise a UserError for the first key that no constructor takes, or the first value of a wrong type."""
    for key, child in _children(node):
        check_bindings(child, f"{path}.{key}" if path else str(key))
    if isinstance(node, DictConfig) and "_target_" in node:
        _check_call(node, path)


def _children(node: DictConfig | ListConfig) -> Iterator[tuple[Any, Any]]:
    keys = node.keys() if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if isinstance(child := node[key], DictConfig | ListConfig):
            yield key, child


def _check_call(node: DictConfig, path: str) -> None:
    parameters = inspect.signature(_locate(node, path)).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in set(node) - _RESERVED:
        if key in parameters:
            _check_type(node[key], parameters[key].annotation, f"{path}.{key}")
        elif not takes_any:
            near = difflib.get_close_matches(key, parameters, n=1)
            hint = f"did you mean {path}.{near[0]}?" if near else f"keys: {', '.join(parameters)}"
            raise UserError(
                f"there is no key {path}.{key} ({node._target_}); {hint}. Where a recipe or an experiment "
                f"set it for another choice, '~{path}.{key}' on the command line removes it"
            )


def _locate(node: DictConfig, path: str) -> Callable[..., Any]:
    try:
        return get_object(node._target_)
    except Exception as error:
        if package := missing_package(error):
            raise UserError(f"{path} needs the package {package}: pip install {package}") from error
        raise UserError(f"{path}._target_: there is no {node._target_} ({error})") from error


def missing_package(error: BaseException | None) -> str | None:
    """The package that is not installed, where that is what the error or one of its causes says."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            if importlib.util.find_spec(package) is None:
                return package
        error = error.__cause__ or error.__context__
    return None


def _check_type(value: Any, annotation: Any, path: str) -> None:
    """Scalars, sequences and nulls are judged; what else a constructor takes it checks itself."""
    words = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    if words and value not in words:
        raise UserError(f"{path} must be one of {', '.join(map(str, words))}, got {value!r}")
    allowed = _scalar_types(annotation)
    if value is None and allowed is None and _is_part(annotation):
        raise UserError(
            f"{path} must be a {annotation.__name__}, got null: leave it out, or give its _target_"
        )
    if allowed is None or isinstance(value, DictConfig):
        return
    if isinstance(value, ListConfig):
        if list not in allowed:
            raise UserError(f"{path} must be {_names(allowed)}, got the list {list(value)}")
    elif isinstance(value, bool):
        if bool not in allowed:
            raise UserError(f"{path} must be {_names(allowed)}, got {value}")
    elif not isinstance(value, tuple(allowed | ({int} if float in allowed else set()))):
        raise UserError(f"{path} must be {_names(allowed)}, got {value!r}")


def _scalar_types(annotation: Any) -> set[type] | None:
    """The plain types that an annotation admits, or None where it says more than plain types can."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [_scalar_types(a) for a in typing.get_args(annotation)]
        return None if any(p is None for p in parts) else set().union(*parts)
    if annotation in (int, float, str, bool, type(None)):
        return {annotation}
    origin = typing.get_origin(annotation)
    if inspect.isclass(origin) and issubclass(origin, typing.Sequence):
        return {list}
    return None


def _is_part(annotation: Any) -> bool:
    """Whether it is one class, of which null is no object."""
    return inspect.isclass(annotation) and annotation not in (Any, object, inspect.Parameter.empty)


def _names(allowed: set[type]) -> str:
    words = {int: "an integer", float: "a number", str: "a string", bool: "true or false", list: "a list"}
    return " or ".join([words[t] for t in words if t in allowed] + ["null"] * (type(None) in allowed))
