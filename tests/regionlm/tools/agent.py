"""What an agent does, as a script: it lists the tools, calls some, and looks at the pictures."""

import base64
import io

import numpy as np
from mcp import Client
from PIL import Image

NAMES = ["caption_regions", "match_region", "describe_image", "find_region", "show_region"]


async def look_for_the_fox(client: Client, image: str) -> None:
    """Find the fox in sand.png, make sure that it is one, and draw it.

    image: its path or data: URI.
    """
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == NAMES
    assert all(tool.annotations.read_only_hint for tool in listed)
    assert "find_region" in client.instructions

    found = await client.call_tool("find_region", {"image": image, "text": "a fox"})
    assert not found.is_error, found.content
    text, picture = found.content
    assert text.type == "text" and picture.type == "image" and picture.mime_type == "image/png"
    assert "a fox: box" in text.text
    place = found.structured_content

    texts = ["a fox", "a book", "a fish"]
    region = {"mask": place["mask"]}
    arguments = {"image": place["image"], "region": region, "texts": texts}
    matched = await client.call_tool("match_region", arguments)
    assert matched.structured_content["ranking"][0]["text"] == "a fox"

    arguments = {"image": place["image"], "regions": [{"box": place["box"], "id": "it"}]}
    said = await client.call_tool("caption_regions", arguments)
    assert "fox" in said.structured_content["regions"][0]["caption"]

    shown = await client.call_tool("show_region", arguments)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.content[1].data))))
    x0, y0, x1, y1 = place["box"]
    plain = await client.call_tool("show_region", {"image": place["image"]})
    before = np.asarray(Image.open(io.BytesIO(base64.b64decode(plain.content[1].data))))
    changed = (pixels != before).any(2)
    assert changed[y0:y1, x0:x1].mean() > 0.9 and changed.mean() < 0.3


async def refused(client: Client, name: str, arguments: dict) -> str:
    """What is said of a call that must fail: one line."""
    result = await client.call_tool(name, arguments)
    assert result.is_error, result.content
    (text,) = result.content
    assert "\n" not in text.text and "Traceback" not in text.text
    return text.text
