"""The official MCP client, driven line by line: a JSON command in, a JSON answer out.

The first line says how to start the server: {"command", "args", "env", "mode", "stderr"}. Then
{"tools": true} lists the tools and holds their schemas against JSON Schema, and
{"call": name, "arguments": {...}} calls one; {"calls": [[name, arguments], ...]} calls several at once.
The client itself holds every result against the tool's output schema.
"""

import asyncio
import json
import sys

from jsonschema import Draft202012Validator, FormatChecker
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client


def checked(tool):
    """What is wrong with a tool's schemas is an exception."""
    for schema in (tool.input_schema, tool.output_schema):
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object", schema
        assert "$ref" not in json.dumps(schema), schema
    assert tool.input_schema["additionalProperties"] is False, tool.name
    for name, schema in tool.input_schema["properties"].items():
        assert schema["description"], name
        for example in schema["examples"]:
            Draft202012Validator(schema, format_checker=FormatChecker()).validate(example)
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True)


async def call(client, name, arguments):
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        return {"error": {"code": error.error.code, "message": error.error.message}}
    answer = {"is_error": bool(result.is_error), "text": [block.text for block in result.content]}
    if result.structured_content is not None:
        answer["structured"] = result.structured_content
    return answer


async def answer(client, command):
    if "tools" in command:
        return [checked(tool) for tool in (await client.list_tools()).tools]
    if "calls" in command:
        return await asyncio.gather(*(call(client, *one) for one in command["calls"]))
    return await call(client, command["call"], command["arguments"])


def say(value):
    print(json.dumps(value), flush=True)


async def main():
    loop = asyncio.get_running_loop()

    async def heard():
        return await loop.run_in_executor(None, sys.stdin.readline)

    start = json.loads(await heard())
    server = StdioServerParameters(command=start["command"], args=start["args"], env=start["env"])
    with open(start["stderr"], "w") as stderr:
        async with Client(stdio_client(server, errlog=stderr), mode=start["mode"]) as client:
            info = client.server_info
            say({
                "protocol": client.protocol_version,
                "name": info.name if info else None,
                "version": info.version if info else None,
                "instructions": client.instructions,
                "capabilities": client.server_capabilities.model_dump(mode="json", exclude_none=True),
            })
            while line := await heard():
                say(await answer(client, json.loads(line)))


asyncio.run(main())
