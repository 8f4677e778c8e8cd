"""How a server wants one and the same question written."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from labeler.propose.endpoint.wire import Question

Structured = Literal["json_schema", "json_object", "text"]
Picture = Literal["webp", "jpeg", "none"]
_TOLD = {
    "picture": ("image", "picture", "vision", "multimodal", "mmproj"),
    "structured": ("response_format", "json_schema", "json_object", "structured output", "grammar"),
    "tokens": ("max_completion_tokens",),
    "temperature": ("temperature",),
}
"""The words of a refusal that name an option. Newer models of OpenAI's answer `max_tokens` by asking for
`max_completion_tokens`."""
_JPEG_QUALITY = 92  # tiles stay as legible as in the WebP


@dataclass(frozen=True)
class Dialect:
    """What a server understands, found by asking it (`probe.find_dialect`), never by its name.

    Attributes:
        structured: how the answer's form is asked for: by schema, as some JSON object, or in words only.
        picture: the image format that it decodes (llama.cpp's does not know WebP); none for a model without
            eyes.
        tokens: the field that bounds the answer.
        temperature: whether it may be set.
    """

    structured: Structured = "json_schema"
    picture: Picture = "webp"
    tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True

    def body(self, question: Question, model: str, temperature: float) -> dict[str, Any]:
        """The body of the chat completion's request."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": self._content(question)}]
        for turn in question.turns:
            messages += [
                {"role": "assistant", "content": turn.said},
                {"role": "user", "content": turn.told},
            ]
        body: dict[str, Any] = {"model": model, "messages": messages, self.tokens: question.max_tokens}
        if self.structured == "json_schema":
            form = {"name": question.schema_name, "schema": question.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        if self.temperature:
            body["temperature"] = temperature
        return body

    def without(self, said: str, *, pictures: bool = False) -> Dialect | None:
        """The dialect that leaves out what a refusal names; None where it names nothing that can be.

        The image format changes only with `pictures`: a run whose pictures were understood before does not
        begin to leave them out.
        """
        named = {option for option, words in _TOLD.items() if any(word in said.casefold() for word in words)}
        if "tokens" in named and self.tokens == "max_tokens":
            return replace(self, tokens="max_completion_tokens")
        if "structured" in named and self.structured != "text":
            return replace(self, structured="json_object" if self.structured == "json_schema" else "text")
        if pictures and "picture" in named and self.picture != "none":
            return replace(self, picture="jpeg" if self.picture == "webp" else "none")
        if "temperature" in named and self.temperature:
            return replace(self, temperature=False)
        return None

    def dump(self) -> str:
        """As it is noted in the ledger."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def load(cls, text: str) -> Dialect:
        """A dialect from the ledger."""
        return cls(**json.loads(text))

    def _content(self, question: Question) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = [{"type": "text", "text": question.prompt}]
        if question.picture and self.picture != "none":
            data, kind = question.picture, "png" if question.picture.startswith(b"\x89PNG") else "webp"
            if self.picture == "jpeg":
                data, kind = as_jpeg(data), "jpeg"
            url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        return content


def as_jpeg(picture: bytes) -> bytes:
    """The same picture as JPEG."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
