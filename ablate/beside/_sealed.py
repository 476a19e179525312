"""Documents with a checksum over what they hold under a key, which is a model's."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ablate.errors import DamagedError, StoreError, invalid
from ablate.machine import fingerprint
from ablate.storage import Place

Held = TypeVar("Held", bound=BaseModel)


def opened(content: bytes, kind: type[Held], key: str, *, at: str) -> tuple[Held, dict[str, Any]]:
    """What a document at `at` holds, and all of the document.

    Raises:
        DamagedError: it cannot be trusted.
    """
    try:
        document = json.loads(content)
        if document["checksum"] != fingerprint(document[key]):
            raise DamagedError(f"{at}: the checksum does not match; it is damaged")
        return kind.model_validate(document[key]), document
    except ValidationError as error:
        raise DamagedError(f"{at}: holds no {key} that is known ({': '.join(invalid(error))})") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{at}: damaged ({type(error).__name__})") from None


def every(place: Place, names: Iterable[str], kind: type[Held], key: str) -> Iterator[Held | StoreError]:
    """What the documents of these names hold, where there are any; the error of what cannot be trusted."""
    for name in names:
        try:
            if (content := place.read(name)) is not None:
                yield opened(content, kind, key, at=f"{place.name}/{name}")[0]
        except StoreError as error:
            yield error
